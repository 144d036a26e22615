"""Methods at several budgets, ready to solve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from agents.policies.base import TrainablePolicy
from agents.search import METHODS, WALKS, make_method
from agents.search.solvers import Searching, Solver, Walking
from reason_envs.errors import ReasonEnvsError, unknown_name

WALKING = {"policy": ("samples", "select", "temperature"), **dict.fromkeys(WALKS, ("samples", "select"))}
"""The methods that play episodes, and their options."""

BUDGETS = ("n", "width", "budget", "samples")
"""Options that say how much a method spends: methods that differ in nothing else are one curve of the frontier."""


@dataclass(frozen=True)
class Plan:
    """A method with all of its options."""

    method: str
    """Its name."""
    options: dict[str, Any]
    """The options that were given."""

    @property
    def label(self) -> str:
        """Its name and options."""
        return self._named(self.options)

    @property
    def family(self) -> str:
        """Its name and the options that are no budget."""
        return self._named(key for key in self.options if key not in BUDGETS)

    def _named(self, keys: Iterable[str]) -> str:
        return " ".join([self.method, *(f"{key}={self.options[key]}" for key in keys)])

    def solver(self, policy: TrainablePolicy | None) -> Solver:
        """Build what answers problems."""
        if self.method in METHODS:
            return Searching(make_method(self.method, **self.options))
        options = dict(self.options)
        temperature = options.pop("temperature", None)
        if self.method in WALKS:
            return Walking(WALKS[self.method](), **options)
        assert policy is not None  # the command refuses method=policy without a run
        sampling = None if temperature is None else replace(policy.sampling, temperature=temperature)
        return Walking(policy, sampling=sampling, **options)


def plans(methods: Sequence[str], given: Mapping[str, Sequence[Any]]) -> list[Plan]:
    """Return every method with every combination of its options' values.

    Args:
        methods: their names.
        given: the values of each option; it goes to the methods that have it.

    Raises:
        ReasonEnvsError: an unknown method, or an option that none of the methods has.
    """
    for name in methods:
        if name not in METHODS and name not in WALKING:
            raise unknown_name("method", str(name), [*METHODS, *WALKING])
    for key in given:
        if not any(key in options_of(name) for name in methods):
            having = [name for name in (*METHODS, *WALKING) if key in options_of(name)]
            raise ReasonEnvsError(f"{key}= is an option of {', '.join(having)}; none of them is in method={methods}.")
    return [plan for name in methods for plan in _combinations(name, given)]


def options_of(method: str) -> tuple[str, ...]:
    """Return the names of a method's options."""
    if method in WALKING:
        return WALKING[method]
    return tuple(field.name for field in fields(METHODS[method]))  # type: ignore[arg-type]


def _combinations(method: str, given: Mapping[str, Sequence[Any]]) -> Iterator[Plan]:
    own = {key: values for key, values in given.items() if key in options_of(method)}
    for values in product(*own.values()):
        yield Plan(method, dict(zip(own, values, strict=True)))
