"""Environments for the tests of the server. Importing this module registers them, as a user's module would."""

from __future__ import annotations

import asyncio
import math

from toys import Toy, ToyConfig

import reason_envs
from reason_envs.envs.reason_tree.config import ReasonTreeConfig
from reason_envs.envs.reason_tree.environment import ReasonTree


class CountedTree(ReasonTree):
    """Returns in ``info["calls"]`` the number of calls of its generator by all sessions."""

    async def step(self, actions):
        result = await super().step(actions)
        return result.__class__(**{**vars(result), "info": {**result.info, "calls": self.grower.engine.batcher.calls}})


class SlowToy(Toy):
    """Takes a minute for the action "wait", returns an infinite reward for "owe", and fails with the seed 13."""

    async def reset(self, *, seed=None, options=None):
        if seed == 13:
            raise KeyError("thirteen")
        return await super().reset(seed=seed, options=options)

    async def step(self, actions):
        if "wait" in actions.values():
            await asyncio.sleep(60)
        result = await super().step(actions)
        owed = {"solver": math.inf} if "owe" in actions.values() else result.rewards
        return result.__class__(**{**vars(result), "rewards": owed})


reason_envs.register("SlowToy-v0", SlowToy, ToyConfig)
reason_envs.register("CountedTree-v0", CountedTree, ReasonTreeConfig)
