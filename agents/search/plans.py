"""Search methods and policies that solve problems in a search-tree environment, and their options in a comparison."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from agents.policies.base import Policy, TrainablePolicy
from agents.search import METHODS, WALKS, SearchMethod, make_method
from agents.search.answer import COSTS, SELECTIONS, Answer, Candidate, choose, costs_of
from reason_envs import validation
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import SEARCHER, ReasonTree
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task
from reason_envs.validation import at_least, one_of

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
class Walking:
    """Solver that plays episodes of a policy and selects one of their answers."""

    policy: Policy
    """Policy that acts in the environment."""
    samples: int = 1
    """Number of episodes per problem."""
    select: str = "majority"
    """Selection among the answers: ``maximum``, ``vote`` or ``majority``. Values are scores of the reward model."""
    sampling: Sampling | None = None
    """Sampling parameters of the actions. ``None``: the parameters of the policy."""

    def __post_init__(self) -> None:
        one_of(self, select=SELECTIONS)
        at_least(self, samples=1)

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Play the episodes and select one of their answers."""
        seeds = [derive_seed(seed, task.id, k) for k in range(self.samples)]
        answers = await gather(*(self._play(environment.fork(), task, s) for s in seeds))
        candidates = [Candidate(a.response, a.answer, a.value) for a in answers if a.answer is not None]
        costs = {name: sum(getattr(answer, name) for answer in answers) for name in COSTS}
        return choose(candidates, self.select, (answers[0].response, answers[0].value), costs)

    async def _play(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Play one episode. A truncated episode has no answer. The tokens of the policy count as generated tokens."""
        result = await environment.reset(seed=seed, options={"task": task})
        turn = own_tokens = 0
        while not result.done:
            observation = self.policy.observe(environment, result.observations[SEARCHER])
            address = derive_seed(seed, "policy", SEARCHER, turn)
            (choice,) = await self.policy.act([observation], [address], self.sampling, agents=[SEARCHER])
            result = await environment.step({SEARCHER: self.policy.action(environment, choice)})
            own_tokens += len(choice.token_ids) if choice.prompt_ids else 0
            turn += 1
        state, grower = environment.state, environment.grower
        response = grower.response(state.tree, state.current) if state.answered else ""
        costs = costs_of(state.tree)
        costs["generated_tokens"] += own_tokens
        value = state.tree.nodes[state.current].value
        return Answer(response, grower.answer(response), value, candidates=1, **costs)


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
