"""SingleTurnMath-v0: one problem, one response, one reward."""

from dataclasses import dataclass, field
from typing import Any

from reason_envs.core import AgentId, derive_seed
from reason_envs.envs.task_environment import Reply, TaskConfig, TextEnvironment
from reason_envs.rewards import RewardConfig, build_reward
from reason_envs.validation import at_least, mounted

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
    max_response_chars: int = 20_000
    """Maximum number of characters of a response; a longer one is invalid and graded as an empty response."""

    def __post_init__(self) -> None:
        at_least(self, max_response_chars=1)


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
            self.reward = build_reward(config.reward)

    async def answer(self, response: str) -> Reply:
        """Grade the response and end the episode."""
        reward = await self.reward(response, self.task, derive_seed(self.state.seed, SOLVER, 0, 0))
        return Reply(reward.value, info=reward.info)
