"""SingleTurnMath-v0: one problem, one response, one reward."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
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
        """Problems of the train split with a worked solution: one more than needed, since none is shown before itself.

        Raises:
            OptionError: there are too few.
        """
        train, count = make(self.config.tasks, "train"), self.config.examples + 1
        tasks = (train.ordered(position, seed=0) for position in range(len(train)))
        found = list(islice((task for task in tasks if task.metadata.get("solution")), count))
        if len(found) < count:
            rule = f"needs {count} problems with a solution, but the train split of {train.name} has {len(found)}"
            raise OptionError("examples", self.config.examples, f"{rule}: set examples=0.")
        return found

    def render_messages(self, observation: str) -> list[Message]:
        """Return the solved examples as earlier turns, and then the problem."""
        examples = self._examples if self.config.examples else []
        others = [task for task in examples if task.question != observation]
        turns = [turn for task in others[: self.config.examples] for turn in _solved(task)]
        *head, problem = super().render_messages(observation)
        return [*head, *turns, problem]

    async def answer(self, response: str) -> Reply:
        """Grade the response and end the episode."""
        reward = await self.reward(response, self.task, derive_seed(self.state.seed, SOLVER, 0, 0))
        return Reply(reward.value, info=reward.info)


def _solved(task: Task) -> list[Message]:
    """Return a problem and its solution, with the answer in a box, as two messages."""
    solution = task.metadata["solution"].strip()
    boxed = solution if "\\boxed" in solution else f"{solution}\n\\boxed{{{task.answer}}}"
    return [{"role": "user", "content": task.question}, {"role": "assistant", "content": boxed}]
