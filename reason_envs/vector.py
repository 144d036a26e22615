"""Many episodes at once: only the named slots move, and nothing resets by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import ReasonEnvsError


class VectorEpisodes:
    """A row of environments whose awaited calls are answered together.

    Args:
        environments: one for each slot; distinct objects, which may share tasks, engines and reward models.
    """

    def __init__(self, environments: Sequence[Environment]) -> None:
        if not environments:
            raise ReasonEnvsError("No environments given: a vector needs at least one.")
        if len({id(environment) for environment in environments}) != len(environments):
            raise ReasonEnvsError("The same environment stands in two slots: give each slot its own (fork it).")
        self.environments = tuple(environments)
        self._results: list[StepResult | None] = [None] * len(environments)

    @classmethod
    def of(cls, environment: Environment, count: int) -> VectorEpisodes:
        """Build ``count`` slots from one environment that has not been reset and forks of it."""
        if count < 1:
            raise ReasonEnvsError(f"count={count}: a vector needs at least one environment.")
        return cls([environment, *(environment.fork() for _ in range(count - 1))])

    def __len__(self) -> int:
        return len(self.environments)

    @property
    def live(self) -> list[int]:
        """Slots whose episode is under way."""
        return [slot for slot, result in enumerate(self._results) if result is not None and not result.done]

    def result(self, slot: int) -> StepResult | None:
        """What the slot's last reset or step returned; ``None`` before the first reset."""
        return self._results[slot]

    async def reset(
        self,
        slots: Iterable[int] | None = None,
        seeds: Mapping[int, int | None] | None = None,
        options: Mapping[int, dict[str, Any]] | None = None,
    ) -> dict[int, StepResult]:
        """Start episodes.

        Args:
            slots: which ones; all by default.
            seeds: seed of each slot; a slot without one continues its environment's own sequence.
            options: reset options of each slot.
        """
        seeds, options = seeds or {}, options or {}
        chosen = list(range(len(self)) if slots is None else slots)
        self._check_slots([*chosen, *seeds, *options])
        starts = (checked_reset(self.environments[s], seed=seeds.get(s), options=options.get(s)) for s in chosen)
        return self._store(chosen, await gather(*starts, slots=chosen))

    async def step(self, actions: Mapping[int, Mapping[AgentId, Action]]) -> dict[int, StepResult]:
        """Move the named slots, each by the actions of the agents that were to act there."""
        self._check_slots(actions)
        ended = sorted(set(actions) - set(self.live))
        if ended:
            raise ReasonEnvsError(f"Slots {ended} have no episode under way: reset them before stepping.")
        moves = (checked_step(self.environments[slot], chosen) for slot, chosen in actions.items())
        return self._store(list(actions), await gather(*moves, slots=list(actions)))

    def close(self) -> None:
        """Close every environment."""
        for environment in self.environments:
            environment.close()

    def _check_slots(self, slots: Iterable[int]) -> None:
        wrong = sorted(slot for slot in slots if not 0 <= slot < len(self))
        if wrong:
            raise ReasonEnvsError(f"Slots {wrong} do not exist: there are {len(self)}, counted from 0.")

    def _store(self, slots: list[int], results: list[StepResult]) -> dict[int, StepResult]:
        for slot, result in zip(slots, results, strict=True):
            self._results[slot] = result
        return dict(zip(slots, results, strict=True))
