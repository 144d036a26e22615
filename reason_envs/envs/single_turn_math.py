"""SingleTurnMath-v0: one problem, one response, one reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reason_envs.core import Action, AgentId, Environment, Message, StepResult, derive_seed
from reason_envs.envs.task_environment import MAX_QUESTION_CHARS, build_reward, check_question, choose_task
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import Reward, RewardConfig
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import Task, make
from reason_envs.validation import mounted

SOLVER: AgentId = "solver"


@dataclass
class SingleTurnMathConfig:
    """Options of SingleTurnMath-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    split: str = "train"
    """Which part of them."""
    reward: Any = field(default_factory=RewardConfig)
    """A ``RewardConfig`` or a mapping of its fields, a reward's name, ``"package.module:function"``, or a function."""
    system_prompt: str | None = None
    """Text of a system message before the problem; ``None`` sends none."""
    max_response_chars: int = 20_000
    """Longest response in characters; a longer one is an invalid action and counts as no answer."""


@dataclass
class SingleTurnMathState:
    """What an episode has seen."""

    seed: int
    """The episode's seed."""
    response: str | None = None
    """The solver's response; ``None`` before it came."""
    reward: float | None = None
    """What it earned."""


class SingleTurnMath(Environment):
    """A problem is shown to the ``solver``, whose response ends the episode with the reward's verdict.

    The observation is the problem's text, the action the response. ``info`` names the task (``task_id``) and, after the
    response, says whether the action was valid (``valid_action``) and what the reward tells: for the default one
    ``correct``, ``extracted``, ``reason`` and ``no_answer``. Any text is graded; what is no text, or too long, is
    graded as an empty response.

    Args:
        config: the options; all defaults where it is ``None``.
    """

    agents = (SOLVER,)
    decisions_per_episode = 1

    def __init__(self, config: SingleTurnMathConfig | None = None) -> None:
        self.config = config or SingleTurnMathConfig()
        with mounted("tasks"):
            self.tasks = make(self.config.tasks, self.config.split)
        with mounted("reward"):
            self.reward = build_reward(self.config.reward)
        self.task: Task | None = None
        self._observation_space = UnicodeText(MAX_QUESTION_CHARS)
        self._action_space = UnicodeText(self.config.max_response_chars)

    def observation_space(self, agent: AgentId) -> UnicodeText:
        """Return the space of problem texts."""
        return self._observation_space

    def action_space(self, agent: AgentId) -> UnicodeText:
        """Return the space of responses."""
        return self._action_space

    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Pose a problem: ``options["task"]`` (a ``Task`` or mapping), else the one that belongs to the seed."""
        state = SingleTurnMathState(self.episode_seed(seed))
        task = choose_task(self.tasks, state.seed, options)
        check_question(task)
        self.state, self.task = state, task
        return StepResult({SOLVER: task.question}, info={"task_id": task.id})

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Grade the solver's response and end the episode."""
        if self.task is None or self.state.response is not None:
            raise ReasonEnvsError("No problem is waiting for a response: call reset first.")
        action = actions[SOLVER]
        valid = self._action_space.contains(action)
        self.state.response = action if valid else ""
        verdict = await self._judge(self.task)
        self.state.reward = verdict.value
        info = {"task_id": self.task.id, "valid_action": valid, **verdict.info}
        return StepResult({}, {SOLVER: verdict.value}, {SOLVER: True}, {SOLVER: False}, info=info)

    def render_messages(self, observation: str) -> list[Message]:
        """Write the problem as a user message, after the system message if there is one."""
        user = {"role": "user", "content": observation}
        if self.config.system_prompt is None:
            return [user]
        return [{"role": "system", "content": self.config.system_prompt}, user]

    def parse_action(self, text: str) -> str:
        """Take the text as it is."""
        return text

    def render(self) -> str | None:
        """Return problem, response and reward as text (``render_mode="ansi"``)."""
        if self.render_mode is None or self.task is None:
            return None
        lines = [f"Problem: {self.task.question}"]
        if self.state.response is not None:
            lines += [f"Response: {self.state.response}", f"Reward: {self.state.reward}"]
        return "\n".join(lines)

    async def _judge(self, task: Task) -> Reward:
        return await self.reward(self.state.response, task, derive_seed(self.state.seed, SOLVER, 0, 0))
