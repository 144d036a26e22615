"""Plays the checked environment, in the same way each time, and compares the results. The first check only plays."""

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
from gymnasium.spaces import Discrete, Text

from reason_envs.adapters.loop import run
from reason_envs.batching import gather
from reason_envs.check.results import CheckFailure
from reason_envs.core import Action, AgentId, Environment, StepResult, checked_reset, checked_step, derive_seed
from reason_envs.errors import shortened
from reason_envs.tasks import TaskSet

T = TypeVar("T")

RESPONSES = ("42", r"\boxed{7}", "I do not know.", "print(1)", "Work step by step.\nThen check: 3 + 4 = 7.")
"""Responses of the player in environments with text actions."""
EPISODES = 3
"""Number of seeds that are played by checks of whole episodes."""
FEW = 3
"""Minimum length of the longest episode; shorter ones may be due to a bad player."""
INVALID = "valid_action"
"""Key of ``info`` that reports whether a decision was a valid action."""


@dataclass(frozen=True)
class Subject:
    """The checked environment and the way to play it."""

    build: Callable[[], Environment]
    """Function that builds a new environment."""
    seed: int = 0
    """Seed of the episodes and of the player."""
    responses: tuple[str, ...] = ()
    """Texts that a good player might write, in place of ``RESPONSES``; empty: ``RESPONSES``."""
    options: tuple[str, ...] | None = None
    """Names of the environment's options; ``None`` if they are unknown."""
    max_steps: int = 50
    """Maximum number of steps that are played of an episode."""
    timeout: float = 60.0
    """Maximum duration of an episode in seconds."""
    strays: bool = False
    """Whether agents that do not act send actions too."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in a batching scope. A timeout is a failure."""
        try:
            (result,) = run(asyncio.wait_for(gather(coroutine), self.timeout))
        except TimeoutError as error:
            raise CheckFailure(
                f"An episode did not end within {self.timeout:g} s.",
                "Await only engines and reward models. A lock or semaphore between episodes that wait for one batch "
                "blocks forever. If the environment is only slow, raise --timeout.",
            ) from error
        return result

    @property
    def examples(self) -> list[Self]:
        """Copies of this subject with ``EPISODES`` different seeds."""
        return [replace(self, seed=self.seed + i) for i in range(EPISODES)]

    def play(self, environment: Environment, options: dict[str, Any] | None = None) -> list[StepResult]:
        """Play an episode from its reset with ``options``."""
        return self.run(self.episode(environment, options=options))

    async def episode(
        self, environment: Environment, steps: int | None = None, options: dict[str, Any] | None = None
    ) -> list[StepResult]:
        """Reset and take ``steps`` actions, or all if ``None``. Returns every result."""
        # copied, so that later changes of a result by the environment are noticed
        results = [copy.deepcopy(await checked_reset(environment, seed=self.seed, options=options))]
        return results + await self.go_on(environment, results[0], steps=steps)

    async def go_on(
        self, environment: Environment, last: StepResult, salt: str = "", steps: int | None = None, first: int = 0
    ) -> list[StepResult]:
        """Continue an episode by up to ``steps`` actions after the ``first`` ones. ``salt`` selects other actions."""
        results: list[StepResult] = []
        end = self.max_steps if steps is None else first + steps
        for turn in range(first, end):
            if last.done:
                break
            last = copy.deepcopy(await checked_step(environment, self.actions(environment, last, turn, salt)))
            results.append(last)
        return results

    def actions(self, environment: Environment, last: StepResult, turn: int, salt: str = "") -> dict[AgentId, Action]:
        """Choose an action for every agent that acts. It depends only on the place in the episode."""
        chosen = {agent: self.action(environment, agent, turn, salt) for agent in last.observations}
        others = [agent for agent in environment.agents if agent not in chosen] if self.strays else []
        return {**chosen, **{agent: self.action(environment, agent, turn, "out of turn") for agent in others}}

    def action(self, environment: Environment, agent: AgentId, turn: int, salt: str = "") -> Action:
        """Choose an action: a legal discrete one, a meaningful text, or a random element of the space."""
        draw = derive_seed(self.seed, "check", salt, turn, agent)
        space = environment.action_space(agent)
        if isinstance(space, Discrete):
            legal = np.flatnonzero(environment.action_masks())
            return int(space.start + legal[draw % len(legal)])
        if isinstance(space, Text):
            texts = self.responses or RESPONSES
            return environment.parse_action(texts[draw % len(texts)])
        space = copy.deepcopy(space)
        space.seed(draw % 2**31)
        return space.sample()


def difference(ours: Any, theirs: Any, where: str = "") -> str | None:
    """Describe the first difference of two values; ``None`` if they are equal (NaN equals NaN)."""
    if isinstance(ours, StepResult) and isinstance(theirs, StepResult):
        return _first(((f.name, getattr(ours, f.name), getattr(theirs, f.name)) for f in fields(ours)), where)
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and ours.keys() == theirs.keys():
        return _first(((f"[{key!r}]", ours[key], theirs[key]) for key in ours), where)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        return _first(((f"[{i}]", *pair) for i, pair in enumerate(zip(ours, theirs, strict=True))), where)
    return None if _equal(ours, theirs) else f"{where}: {shortened(ours)} and {shortened(theirs)}"


def compare(ours: Sequence[StepResult], theirs: Sequence[StepResult], first: int = 0) -> str | None:
    """Describe the first difference of two plays. Their first result is that of step ``first`` (0: the reset)."""
    for step, (one, other) in enumerate(zip(ours, theirs, strict=False), start=first):
        found = difference(one, other, f"{'reset' if step == 0 else f'step {step}'}: ")
        if found is not None:
            return found
    if len(ours) != len(theirs):
        return f"one has {len(ours)} results, the other {len(theirs)}"
    return None


def playing(subject: Subject) -> str:
    """Play several episodes."""
    environment = subject.build()
    steps = [_play(example, environment) for example in subject.examples]
    detail = f"{EPISODES} episodes of {', '.join(map(str, steps[:-1]))} and {steps[-1]} steps"
    writes = isinstance(environment.action_space(environment.agents[0]), Text)
    if max(steps) < FEW and writes and environment.decisions_per_episode is None and not subject.responses:
        detail += "; if a good player's episodes are longer, add its responses with --response TEXT (repeatable)"
    return detail


def _play(subject: Subject, environment: Environment) -> int:
    """Play an episode of a known task, if the environment has tasks. Returns the number of steps."""
    posed = environment.tasks
    if not isinstance(posed, TaskSet):
        return len(subject.play(environment)) - 1
    task = posed.sample(subject.seed)
    before = copy.deepcopy(task)
    comparable = difference(vars(before), vars(task)) is None
    results = subject.play(environment, {"task": task})
    found = difference(vars(before), vars(task)) if comparable else None
    if found is not None:
        raise CheckFailure(
            f"The episode of the task {before.id!r} changed the task: {found} (before and after).",
            "Episodes share tasks: copy what an episode changes into self.state in reset.",
        )
    return len(results) - 1


def _first(triples: Any, where: str) -> str | None:
    return next((found for name, a, b in triples if (found := difference(a, b, where + name)) is not None), None)


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        same_kind = ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return same_kind and bool(np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fc"))
    return bool(ours == theirs or (ours != ours and theirs != theirs))
