"""Several episodes at once. The caller chooses which environments are stepped and reset."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import OptionError, ReasonEnvsError


class VectorEpisodes:
    """Environments, distinct objects, whose awaited calls are answered in common batches.

    They may share tasks, engines and reward models. Their positions are called slots.
    """

    def __init__(self, environments: Sequence[Environment]) -> None:
        if not environments:
            raise ReasonEnvsError("No environments: give at least one.")
        if len({id(environment) for environment in environments}) != len(environments):
            raise ReasonEnvsError("The same environment is in two slots: give each slot a fork.")
        self.environments = tuple(environments)
        self._results: list[StepResult | None] = [None] * len(environments)

    @classmethod
    def of(cls, environment: Environment, count: int) -> Self:
        """Use an environment, before its first reset, and ``count - 1`` forks of it."""
        if not hasattr(count, "__index__") or count < 1:
            raise OptionError("num_envs", count, "must be at least 1 and a whole number.")
        return cls([environment, *(environment.fork() for _ in range(count - 1))])

    def __len__(self) -> int:
        return len(self.environments)

    @property
    def live(self) -> list[int]:
        """Slots whose episode is running."""
        return [slot for slot, result in enumerate(self._results) if result is not None and not result.done]

    def result(self, slot: int) -> StepResult | None:
        """Return the result of the last reset or step of a slot; ``None`` before the first reset."""
        return self._results[slot]

    async def reset(
        self,
        slots: Iterable[int] | None = None,
        seeds: Mapping[int, int | None] | None = None,
        options: Mapping[int, dict[str, Any]] | None = None,
    ) -> dict[int, StepResult]:
        """Start episodes.

        Args:
            slots: slots to reset; ``None``: all.
            seeds: seed per slot. Other slots continue the sequence of seeds of their environment.
            options: reset options per slot.
        """
        seeds, options = seeds or {}, options or {}
        chosen = list(range(len(self)) if slots is None else slots)
        self._check_slots([*chosen, *seeds, *options])
        starts = (checked_reset(self.environments[s], seed=seeds.get(s), options=options.get(s)) for s in chosen)
        return self._store(chosen, await gather(*starts, slots=chosen))

    async def step(self, actions: Mapping[int, Mapping[AgentId, Action]]) -> dict[int, StepResult]:
        """Step slots with the actions of their agents. Returns the result of each."""
        self._check_slots(actions)
        ended = sorted(set(actions) - set(self.live))
        if ended:
            raise ReasonEnvsError(f"Slots {ended} have no episode: reset them before stepping.")
        moves = (checked_step(self.environments[slot], chosen) for slot, chosen in actions.items())
        return self._store(list(actions), await gather(*moves, slots=list(actions)))

    def close(self) -> None:
        """Close every environment."""
        for environment in self.environments:
            environment.close()

    def _check_slots(self, slots: Iterable[int]) -> None:
        wrong = sorted(slot for slot in slots if not 0 <= slot < len(self))
        if wrong:
            raise ReasonEnvsError(f"Slots {wrong} do not exist: use 0 to {len(self) - 1}.")

    def _store(self, slots: list[int], results: list[StepResult]) -> dict[int, StepResult]:
        for slot, result in zip(slots, results, strict=True):
            self._results[slot] = result
        return dict(zip(slots, results, strict=True))
