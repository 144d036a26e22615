"""Solvers of problems in a search-tree environment: a search method, or a vote of several episodes of a policy."""

from dataclasses import dataclass
from typing import Protocol

from agents.policies.base import Policy
from agents.search import SearchMethod
from agents.search.answer import COSTS, SELECTIONS, Answer, Candidate, choose, costs_of
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import SEARCHER, ReasonTree
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task
from reason_envs.validation import at_least, one_of


class Solver(Protocol):
    """Solver of problems. Several problems under one ``gather`` are batched."""

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Answer a problem on a fork of the environment, without the correct answer.

        With equal seeds, every solver draws from the same tree.
        """
        ...


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
