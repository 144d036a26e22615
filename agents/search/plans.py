"""Search methods and policies that solve problems in a search-tree environment, and their options in a comparison."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from agents.policies.base import Policy, TrainablePolicy
from agents.search import METHODS, WALKS, SearchMethod, make_method
from agents.search.answer import COSTS, SELECTIONS, Answer, Candidate, choose
from reason_envs import validation
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task
from reason_envs.validation import Checked, limited

WALKING = {"policy": ("samples", "select", "temperature"), **dict.fromkeys(WALKS, ("samples", "select"))}
"""Methods that play episodes, and the names of their options."""

BUDGETS = ("n", "width", "budget", "samples")
"""Options that set how much a method computes. Methods that differ only in these are one curve of the frontier."""


@dataclass(frozen=True)
class Searching:
    """Solver that runs a search method on the initial tree of the environment."""

    method: SearchMethod
    """Search method that grows the tree."""

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Search the tree of the problem."""
        fork = environment.fork()
        await fork.reset(seed=derive_seed(seed, task.id, 0), options={"task": task})
        return await self.method.search(fork.state.tree, fork.grower)


@dataclass(frozen=True)
class Walking(Checked):
    """Solver that plays episodes of a policy and selects one of their answers."""

    policy: Policy
    """Policy that acts in the environment."""
    samples: int = limited(1, at_least=1)
    """Number of episodes per problem."""
    select: str = limited("majority", one_of=SELECTIONS)
    """Selection among the answers: ``maximum``, ``vote`` or ``majority``. Values are scores of the reward model."""
    sampling: Sampling | None = None
    """Sampling parameters of the actions. ``None``: the parameters of the policy."""

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Play the episodes and select one of their answers. A truncated episode has no answer."""
        from agents.rollout.episodes import EpisodeSpec, play

        episodes = [EpisodeSpec(str(k), task, derive_seed(seed, task.id, k), task.id) for k in range(self.samples)]
        played = await play(environment, self.policy, episodes, sampling=self.sampling)
        ends = [(trajectory.facts.get("solution", ""), trajectory.metrics["path_value"]) for trajectory in played]
        answers = [environment.grower.answer(response) for response, _ in ends]
        candidates = [Candidate(end[0], a, end[1]) for end, a in zip(ends, answers, strict=True) if a is not None]
        costs = {name: round(sum(trajectory.metrics[name] for trajectory in played)) for name in COSTS}
        costs["generated_tokens"] = sum(trajectory.generated_tokens for trajectory in played)
        return choose(candidates, self.select, ends[0], costs)


Solver = Searching | Walking
"""Solver of problems on forks of the environment, without their correct answers.

Several problems under one ``gather`` are batched. With equal seeds, every solver draws from the same tree.
"""


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
    chosen = []
    for name in methods:
        own = {key: values for key, values in given.items() if key in options_of(name)}
        chosen += [Plan(name, dict(zip(own, values, strict=True))) for values in product(*own.values())]
    return chosen


def options_of(method: str) -> tuple[str, ...]:
    """Return the names of the options of a method."""
    return WALKING[method] if method in WALKING else tuple(validation.options_of(METHODS[method]))
