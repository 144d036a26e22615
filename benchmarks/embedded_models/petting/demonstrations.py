"""Training data of the embedded Petting model: decisions of episodes that scripted roles play."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random

from benchmarks.embedded_models.base.demonstrations import Demonstration
from benchmarks.embedded_models.petting.habits import ROLES, best_kind, respond
from reason_envs.batching import gather
from reason_envs.core import StepResult
from reason_envs.envs.petting.base import Petting
from reason_envs.envs.petting.code import PettingCode, PettingCodeConfig
from reason_envs.envs.petting.math import PettingMath, PettingMathConfig
from reason_envs.envs.petting.plan_path import PettingPlanPath, PettingPlanPathConfig
from reason_envs.envs.petting.sokoban import PettingSokoban, PettingSokobanConfig
from reason_envs.envs.petting.sudoku import PettingSudoku, PettingSudokuConfig

SHARES = (0.3, 0.34, 0.14, 0.1, 0.12)
"""Share of each environment among the episodes, in the order of `environments`."""
TOGETHER = 64
"""Number of episodes that are played concurrently."""


def environments(split: str) -> list[Petting]:
    """Return the five environments at their default difficulty with the tasks of a split."""
    return [
        PettingPlanPath(PettingPlanPathConfig(split=split)),
        PettingSokoban(PettingSokobanConfig(split=split)),
        PettingSudoku(PettingSudokuConfig(split=split)),
        PettingMath(PettingMathConfig(split=split)),
        PettingCode(PettingCodeConfig(split=split)),
    ]


class PettingEpisodes:
    """Draws decisions of episodes that are played by habit, each with a response to learn.

    Args:
        best: share of decisions with the best response; the others have a habit of the role.
    """

    def __init__(self, best: float) -> None:
        self.best = best
        self.envs = environments("train")
        self._ready: deque[Demonstration] = deque()

    def draw(self, rng: Random, step: int) -> Demonstration:
        """Return a demonstration. The mixture is the same at every step."""
        if not self._ready:
            self._ready.extend(asyncio.run(self._play(rng)))
        return self._ready.popleft()

    async def _play(self, rng: Random) -> list[Demonstration]:
        chosen = rng.choices(self.envs, SHARES, k=TOGETHER)
        played = await gather(*(self._episode(env.fork(), Random(rng.getrandbits(63))) for env in chosen))
        return [demonstration for episode in played for demonstration in episode]

    async def _episode(self, env: Petting, rng: Random) -> list[Demonstration]:
        result, shown = await env.reset(seed=rng.getrandbits(63)), []
        while not result.done:
            shown.append(self._taught(env, result, rng))
            habits = ROLES[type(env), env.role].habits
            kind = rng.choices(list(habits), list(habits.values()))[0]
            result = await env.step({next(iter(result.observations)): respond(env, kind, rng)})
        return shown

    def _taught(self, env: Petting, result: StepResult, rng: Random) -> Demonstration:
        (observation,) = result.observations.values()
        habits = ROLES[type(env), env.role].habits
        kind = best_kind(env) if rng.random() < self.best else rng.choices(list(habits), list(habits.values()))[0]
        system, user = env.render_messages(observation)
        return Demonstration(
            type(env).__name__, user["content"], respond(env, kind, rng), env.task.question, system["content"]
        )
