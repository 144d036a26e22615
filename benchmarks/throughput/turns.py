"""Seconds of episodes of several turns: all wait for each other's turn, or each submits its call at once.

    python -m benchmarks.throughput.turns
    python -m benchmarks.throughput.turns seconds_per_token=0.006 only=team

Rollouts, environments, batches and graders are the library's. The engine is simulated: a response takes a time per
token, however many run, and its length follows a log-normal distribution with a maximum. In lockstep the calls of all
episodes form one batch, as with ``engine=transformers``, and the longest response ends it. At once, each call is
answered when its own response ends, as with ``engine=vllm``. Both draw the same lengths. The script prints a markdown
table.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.policies.base import Policy
from agents.policies.served import ServedPolicy, ServedPolicyConfig
from agents.policies.walks import AlwaysExpand
from agents.rollout.episodes import grouped, play
from agents.trajectory import Choice
from reason_envs import make_environment
from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.llm.engine import Engine, Generation, GenerationRequest
from reason_envs.registry import parse_options
from reason_envs.tasks.base import Task
from reason_envs.tasks.task_list import ListTaskSet

PROGRAM = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
    async def __call__(self, problem):
        text = problem
        for turn in range(8):
            answer = await self.custom(input=text, instruction="Improve.")
            text = answer["response"]
        return text, 0"""
PROBLEMS = ListTaskSet(
    "sums", "train", [Task(f"sum/{i}", f"{i} + {i}", str(2 * i), {"domain": "math"}) for i in range(64)]
)


@dataclass(frozen=True)
class Kind:
    """An environment, and the lengths of the responses in it."""

    env: str
    """Name of the environment."""
    options: dict[str, Any]
    """Options of the environment."""
    episodes: int
    """Number of episodes that are played together."""
    median: int
    """Median length of a response in tokens."""
    sigma: float
    """Standard deviation of the logarithm of the length."""
    longest: int
    """Maximum length of a response in tokens."""
    simulated: float
    """Ratio of a simulation of such episodes, without the library."""


KINDS = {
    "team": Kind("petting_plan_path", {"max_turns": 4}, 64, 400, 0.9, 8192, 2.0),
    "tree": Kind("reason_tree", {"tasks": PROBLEMS, "reward_model": "random"}, 64, 60, 0.6, 256, 2.3),
    "workflow": Kind("workflow", {"tasks": PROBLEMS, "execution_timeout": 3600}, 64, 300, 0.9, 2048, 2.5),
}


class SimulatedEngine(Engine):
    """Answers after a time that follows from the length of the response."""

    def __init__(self, kind: Kind, seconds_per_token: float, *, lockstep: bool) -> None:
        self._kind, self._seconds, self._lockstep = kind, seconds_per_token, lockstep
        self.continuous = not lockstep
        self._batcher = MicroBatcher[GenerationRequest, list[Generation]](self._together)

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return samples when the batch, or the longest of them, has ended."""
        if self._lockstep:
            return await self._batcher(request)
        answer = self._answer(request)
        await asyncio.sleep(self._duration(answer))
        return answer

    def _together(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        answers = [self._answer(request) for request in requests]
        time.sleep(max(map(self._duration, answers)))
        return answers

    def _duration(self, samples: Sequence[Generation]) -> float:
        return self._seconds * max(sample.generated_tokens for sample in samples)

    def _answer(self, request: GenerationRequest) -> list[Generation]:
        samples = []
        for number in range(request.n):
            seed = derive_seed(request.seed, number)
            draw = np.random.default_rng(seed).lognormal(np.log(self._kind.median), self._kind.sigma)
            tokens, stop = min(int(draw) + 1, self._kind.longest), next(iter(request.sampling.stop), None)
            samples.append(Generation(f"thought {seed}", [1], None, "stop", 0, [1], tokens, stop_string=stop))
        return samples


class Writer(Policy):
    """Writes the same workflow for every problem."""

    async def act(self, observations: Any, seeds: Any, sampling: Any = None, *, agents: Any = ()) -> list[Choice]:
        """Return the workflow."""
        return [Choice([1], None, None, "stop", 0, [1], text=PROGRAM) for _ in observations]


def seconds(kind: Kind, seconds_per_token: float, *, lockstep: bool, episodes: int) -> tuple[float, int]:
    """Play episodes; return the seconds, and the number of tokens that were generated."""
    engine = SimulatedEngine(kind, seconds_per_token, lockstep=lockstep)
    environment = make_environment(
        kind.env, **kind.options, **({} if kind.env.startswith("petting") else {"engine": engine})
    )
    policy: Policy = AlwaysExpand() if kind.env == "reason_tree" else Writer()
    if kind.env.startswith("petting"):
        policy = ServedPolicy(ServedPolicyConfig("simulated", max_tokens=kind.longest))
        policy.engine = engine
    tasks = [environment.tasks[i] for i in range(episodes)]
    start = time.perf_counter()
    played = asyncio.run(play(environment, policy, grouped(tasks, 1, seed=0)))
    elapsed = time.perf_counter() - start
    environment.close()
    return elapsed, sum(trajectory.generated_tokens for trajectory in played)


def main() -> None:
    """Measure both modes in each environment, and print the table."""
    options = {"seconds_per_token": 0.012, "only": None, **parse_options(sys.argv[1:])}
    print("| episodes | lockstep, s | at once, s | ratio | simulated ratio |\n|---|---|---|---|---|")
    for name, kind in KINDS.items():
        if options["only"] not in (None, name):
            continue
        seconds(kind, 0.0, lockstep=True, episodes=4)  # graders and sandboxes start
        rate = float(options["seconds_per_token"])
        (slow, tokens), (fast, same) = (
            seconds(kind, rate, lockstep=each, episodes=kind.episodes) for each in (True, False)
        )
        assert tokens == same, "both modes must play the same episodes"
        row = f"{kind.episodes} x {name} | {slow:.0f} | {fast:.0f} | {slow / fast:.2f} | {kind.simulated}"
        print(f"| {row} |", flush=True)


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
    else:
        main()
