"""Environments for the server's tests; importing this module registers them, as a user's would."""

from __future__ import annotations

import reason_envs
from reason_envs.envs.reason_tree.config import ReasonTreeConfig
from reason_envs.envs.reason_tree.environment import ReasonTree


class CountedTree(ReasonTree):
    """Tells in ``info["calls"]`` how often its generator has been called, by all sessions together."""

    async def step(self, actions):
        result = await super().step(actions)
        return result.__class__(**{**vars(result), "info": {**result.info, "calls": self.grower.engine.batcher.calls}})


reason_envs.register("CountedTree-v0", CountedTree, ReasonTreeConfig)
