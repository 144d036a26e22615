"""One way to answer a problem in a search-tree environment: a search method, or episodes of a policy that vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agents.policies.base import Policy
from agents.search import SearchMethod
from agents.search.answer import SELECTIONS, Answer, Candidate, check_selection, costs_of
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import SEARCHER, ReasonTree
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import Task


class Solver(Protocol):
    """Answers problems; many solved under one ``gather`` are batched."""

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Answer a problem without seeing its label.

        Args:
            environment: the prototype: each problem gets a fork of it.
            task: the problem.
            seed: keys the draws; equal seeds give every solver the same tree to reveal.
        """
        ...


@dataclass(frozen=True)
class Searching:
    """A search method on the tree that the environment starts with."""

    method: SearchMethod
    """What grows it."""

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Search the problem's tree."""
        fork = environment.fork()
        await fork.reset(seed=derive_seed(seed, task.id, 0), options={"task": task})
        return await self.method.search(fork.state.tree, fork.grower)


@dataclass(frozen=True)
class Walking:
    """Episodes of a policy; with several of them their answers vote."""

    policy: Policy
    """Who acts."""
    samples: int = 1
    """Episodes."""
    select: str = "majority"
    """How one of their answers is chosen (see ``SELECTIONS``); values are the reward model's, never returns."""
    sampling: Sampling | None = None
    """How actions are drawn; ``None``: as the policy does by itself."""

    def __post_init__(self) -> None:
        check_selection(self.select)
        if self.samples < 1:
            raise ReasonEnvsError(f"samples={self.samples} must be at least 1.")

    async def solve(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Play the episodes and let their answers vote."""
        seeds = [derive_seed(seed, task.id, k) for k in range(self.samples)]
        answers = await gather(*(self._play(environment.fork(), task, s) for s in seeds))
        candidates = [Candidate(a.response, a.answer, a.value) for a in answers if a.answer is not None]
        chosen = SELECTIONS[self.select](candidates) if candidates else None
        return Answer(
            response=chosen.response if chosen else answers[0].response,
            answer=chosen.answer if chosen else None,
            value=chosen.value if chosen else answers[0].value,
            candidates=len(candidates),
            generated_tokens=sum(a.generated_tokens for a in answers),
            reward_model_tokens=sum(a.reward_model_tokens for a in answers),
            generator_calls=sum(a.generator_calls for a in answers),
            reward_model_calls=sum(a.reward_model_calls for a in answers),
            nodes=sum(a.nodes for a in answers),
        )

    async def _play(self, environment: ReasonTree, task: Task, seed: int) -> Answer:
        """Play one episode; one that was cut off submits nothing. The policy's own tokens count too."""
        options = {} if self.sampling is None else {"sampling": self.sampling}
        result = await environment.reset(seed=seed, options={"task": task})
        turn = own_tokens = 0
        while not result.done:
            observation = self.policy.observe(environment, result.observations[SEARCHER])
            address = derive_seed(seed, "policy", SEARCHER, turn)
            (choice,) = await self.policy.act([observation], [address], agents=[SEARCHER], **options)
            result = await environment.step({SEARCHER: self.policy.action(environment, choice)})
            own_tokens += len(choice.token_ids) if choice.prompt_ids else 0
            turn += 1
        state, grower = environment.state, environment.grower
        response = grower.response(state.tree, state.current) if state.answered else ""
        costs = costs_of(state.tree)
        costs["generated_tokens"] += own_tokens
        value = state.tree.nodes[state.current].value
        return Answer(response, grower.answer(response), value, candidates=1, **costs)
