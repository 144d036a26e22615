"""SingleTurnMath-v0: one problem, one response, one reward."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reason_envs.core import AgentId, Message, derive_seed
from reason_envs.envs.task_environment import Reply, TaskConfig, TextEnvironment
from reason_envs.errors import OptionError
from reason_envs.rewards import RewardConfig, build_reward
from reason_envs.tasks import make
from reason_envs.tasks.base import Task
from reason_envs.validation import limited, mounted

SOLVER: AgentId = "solver"


@dataclass
class SingleTurnMathConfig(TaskConfig):
    """Options of SingleTurnMath-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    reward: Any = field(default_factory=RewardConfig)
    """Reward of the response: a ``RewardConfig``, a mapping of its fields, the name of a reward, a function, the
    address of one (``"package.module:function"``), or a list of these with weights (``weight``)."""
    system_prompt: str | None = None
    """Text of a system message before the problem; ``None`` sends no system message."""
    examples: int = limited(0, at_least=0)
    """Number of problems of the train split that are shown with their solutions before the problem (few-shot). Their
    records must have a worked solution."""
    max_response_chars: int = limited(20_000, at_least=1)
    """Maximum number of characters of a response; a longer one is invalid and graded as an empty response."""


class SingleTurnMath(TextEnvironment):
    """The agent ``solver`` reads a problem; its response is graded and ends the episode.

    The observation is the problem, the action is the response. An action that is not text or is too long is graded as
    an empty response. After the response, ``info`` holds the ``info`` of the reward; the default reward gives
    ``correct``, ``extracted``, ``reason`` and ``no_answer``.
    """

    agents = (SOLVER,)
    decisions_per_episode = 1

    def __init__(self, config: SingleTurnMathConfig | None = None) -> None:
        config = config or SingleTurnMathConfig()
        super().__init__(config, max_response_chars=config.max_response_chars)
        self.system_prompt = config.system_prompt
        with mounted("reward"):
            self.reward = self.graded_by = build_reward(config.reward)

    @cached_property
    def _examples(self) -> list[Task]:
        """One more solved problem than needed, since a problem is not shown before itself."""
        return worked_examples(self.config.tasks, self.config.examples + 1) if self.config.examples else []

    def render_messages(self, observation: str) -> list[Message]:
        """Return the solved examples as earlier turns, and then the problem."""
        others = [task for task in self._examples if task.question != observation]
        turns = [turn for task in others[: self.config.examples] for turn in _solved(task)]
        *head, problem = super().render_messages(observation)
        return [*head, *turns, problem]

    async def answer(self, response: str) -> Reply:
        """Grade the response and end the episode."""
        reward = await self.reward(response, self.task, derive_seed(self.state.seed, SOLVER, 0, 0))
        return Reply(reward.value, info=reward.info)


def worked_examples(tasks: Any, count: int) -> list[Task]:
    """Return ``count`` problems of the train split of ``tasks`` that have a worked solution, the same in every call.

    Raises:
        OptionError: there are too few.
    """
    train = make(tasks, "train")
    found: list[Task] = []
    for position in range(len(train)):
        task = train.ordered(position, seed=0)
        if task.metadata.get("solution"):
            found.append(task)
        if len(found) == count:
            return found
    rule = (
        f"needs {count} problems with a solution, but the train split of {train.name} has {len(found)}: set examples=0."
    )
    raise OptionError("examples", count - 1, rule)


def _solved(task: Task) -> list[Message]:
    """Return a problem and its solution, with the answer in a box, as two messages."""
    solution = task.metadata["solution"].strip()
    boxed = solution if "\\boxed" in solution else f"{solution}\n\\boxed{{{task.answer}}}"
    return [{"role": "user", "content": task.question}, {"role": "assistant", "content": boxed}]
