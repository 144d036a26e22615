"""Search methods and policies with their options, for a comparison at several budgets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from agents.policies.base import TrainablePolicy
from agents.search import METHODS, WALKS, make_method
from agents.search.solvers import Searching, Solver, Walking
from reason_envs import validation
from reason_envs.errors import ReasonEnvsError, unknown_name

WALKING = {"policy": ("samples", "select", "temperature"), **dict.fromkeys(WALKS, ("samples", "select"))}
"""Methods that play episodes, and the names of their options."""

BUDGETS = ("n", "width", "budget", "samples")
"""Options that set how much a method computes. Methods that differ only in these are one curve of the frontier."""


@dataclass(frozen=True)
class Plan:
    """Method with values of its options."""

    method: str
    """Name of the method."""
    options: dict[str, Any]
    """Values of options by name. The other options have their defaults."""

    @property
    def label(self) -> str:
        """Name and options of the method."""
        return self._label(self.options)

    @property
    def family(self) -> str:
        """Name and options of the method without its budget."""
        return self._label(key for key in self.options if key not in BUDGETS)

    def _label(self, keys: Iterable[str]) -> str:
        return " ".join([self.method, *(f"{key}={self.options[key]}" for key in keys)])

    def solver(self, policy: TrainablePolicy | None) -> Solver:
        """Build the solver. ``method="policy"`` requires a policy."""
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
    """Return one plan per method and combination of option values. An option applies to the methods that have it.

    Raises:
        ReasonEnvsError: a method is unknown, or none of the methods has an option.
    """
    for name in methods:
        if name not in METHODS and name not in WALKING:
            raise unknown_name("method", str(name), [*METHODS, *WALKING])
    for key in given:
        if not any(key in options_of(name) for name in methods):
            having = [name for name in (*METHODS, *WALKING) if key in options_of(name)]
            raise ReasonEnvsError(
                f"{key}= is an option of {', '.join(having)}. Add one of them to method={methods}, or remove {key}=."
            )
    return [plan for name in methods for plan in _combinations(name, given)]


def options_of(method: str) -> tuple[str, ...]:
    """Return the names of the options of a method."""
    return WALKING[method] if method in WALKING else tuple(validation.options_of(METHODS[method]))


def _combinations(method: str, given: Mapping[str, Sequence[Any]]) -> Iterator[Plan]:
    own = {key: values for key, values in given.items() if key in options_of(method)}
    for values in product(*own.values()):
        yield Plan(method, dict(zip(own, values, strict=True)))
