"""Playing the environment that is checked, the same way as often as needed, and comparing what came of it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from gymnasium.spaces import Discrete, Text

from reason_envs.adapters.loop import run
from reason_envs.batching import gather
from reason_envs.check.results import CheckFailure
from reason_envs.core import Action, AgentId, Environment, StepResult, checked_reset, checked_step, derive_seed

T = TypeVar("T")

RESPONSES = ("42", r"\boxed{7}", "I do not know.", "print(1)", "Work step by step.\nThen check: 3 + 4 = 7.")
"""What a player says where actions are text."""
EPISODES = 3
"""Seeds that are played where one might hide something."""
INVALID = "valid_action"
"""Where ``info`` says whether a decision was an action at all."""


@dataclass(frozen=True)
class Subject:
    """The environment that is checked, and how it is played."""

    build: Callable[[], Environment]
    """Makes a new one, not yet reset."""
    seed: int = 0
    """Of the episodes and of the player."""
    responses: tuple[str, ...] = ()
    """Texts that a good player might write, said instead of ``RESPONSES``."""
    options: tuple[str, ...] | None = None
    """Names of the environment's options, where they are known."""
    max_steps: int = 50
    """Longest episode that is played to its end."""
    timeout: float = 60.0
    """Seconds that an episode may take."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in a batching scope; one that does not end is a failure."""
        try:
            (result,) = run(asyncio.wait_for(gather(coroutine), self.timeout))
        except TimeoutError as error:
            raise CheckFailure(
                f"An episode did not end within {self.timeout:g} s.",
                "Wait for nothing but engines and reward models: a lock or semaphore between episodes that wait for "
                "one batch waits for ever. If it is only slow, allow more with --timeout.",
            ) from error
        return result

    @property
    def examples(self) -> list[Subject]:
        """The same with each of ``EPISODES`` seeds."""
        return [replace(self, seed=self.seed + i) for i in range(EPISODES)]

    def play(self, environment: Environment, options: dict[str, Any] | None = None) -> list[StepResult]:
        """Play an episode from its reset, with these ``options``, on."""
        return self.run(self.episode(environment, options=options))

    async def episode(
        self, environment: Environment, steps: int | None = None, options: dict[str, Any] | None = None
    ) -> list[StepResult]:
        """Reset and take ``steps`` actions, or as many as there are; return every result."""
        results = [kept(await checked_reset(environment, seed=self.seed, options=options))]
        return results + await self.go_on(environment, results[0], steps=steps)

    async def go_on(
        self, environment: Environment, last: StepResult, salt: str = "", steps: int | None = None, first: int = 0
    ) -> list[StepResult]:
        """Take up to ``steps`` actions from where an episode stands, after ``first`` others.

        A ``salt`` chooses other actions.
        """
        results: list[StepResult] = []
        end = self.max_steps if steps is None else first + steps
        for turn in range(first, end):
            if last.done:
                break
            last = kept(await checked_step(environment, self.actions(environment, last, turn, salt)))
            results.append(last)
        return results

    def actions(self, environment: Environment, last: StepResult, turn: int, salt: str = "") -> dict[AgentId, Action]:
        """Choose for everybody whose turn it is, by the place in the episode alone."""
        return {agent: self.action(environment, agent, turn, salt) for agent in last.observations}

    def action(self, environment: Environment, agent: AgentId, turn: int, salt: str = "") -> Action:
        """Choose an action: a legal one where the environment has masks, a text that means something, or any."""
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


def kept(result: StepResult) -> StepResult:
    """Copy a result, so that an environment that goes on writing into it is noticed."""
    return copy.deepcopy(result)


def difference(ours: Any, theirs: Any, where: str = "") -> str | None:
    """Say where two values differ first; ``None`` where they are equal (not-a-number equals itself)."""
    if isinstance(ours, StepResult) and isinstance(theirs, StepResult):
        return _first(((f.name, getattr(ours, f.name), getattr(theirs, f.name)) for f in fields(ours)), where)
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and ours.keys() == theirs.keys():
        return _first(((f"[{key!r}]", ours[key], theirs[key]) for key in ours), where)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        return _first(((f"[{i}]", *pair) for i, pair in enumerate(zip(ours, theirs, strict=True))), where)
    return None if _equal(ours, theirs) else f"{where}: {_short(ours)} and {_short(theirs)}"


def compare(ours: Sequence[StepResult], theirs: Sequence[StepResult], first: int = 0) -> str | None:
    """Say where two plays differ first, the first of their results being that of step ``first`` (0: the reset)."""
    for step, (one, other) in enumerate(zip(ours, theirs, strict=False), start=first):
        found = difference(one, other, f"{'reset' if step == 0 else f'step {step}'}: ")
        if found is not None:
            return found
    if len(ours) != len(theirs):
        return f"one went on for {len(ours)} results, the other for {len(theirs)}"
    return None


def _first(triples: Any, where: str) -> str | None:
    return next((found for name, a, b in triples if (found := difference(a, b, where + name)) is not None), None)


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        same_kind = ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return same_kind and bool(np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fc"))
    return bool(ours == theirs or (ours != ours and theirs != theirs))


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
