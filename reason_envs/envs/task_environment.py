"""Base classes of environments that pose problems: `TaskEnvironment`, and `TextEnvironment` for one agent and text."""

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar, Self

from gymnasium import Space

from reason_envs.core import Action, AgentId, Environment, Message, StepResult
from reason_envs.envs.prompt_templates import chat, fill
from reason_envs.errors import NoEpisodeError, ReasonEnvsError
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import make
from reason_envs.tasks.base import Task, TaskSet
from reason_envs.validation import Checked, check_options, mounted, options_of


@dataclass
class TaskConfig(Checked):
    """Options of every environment that poses problems."""

    tasks: Any = None
    """Problems: the name of a task family, a mapping of its ``name`` and options, or a ``TaskSet``."""
    split: str = "train"
    """Split of the problems, ``train`` or ``test``."""


@dataclass
class TaskState:
    """State of an episode. Subclasses add fields for everything that changes."""

    seed: int
    """Seed of the episode; every random draw is derived from it."""
    task: Task
    """Problem of the episode. It never changes, and forks share it."""
    done: bool = field(default=False, kw_only=True)
    """Whether the episode has ended."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy every field except the task."""
        memo[id(self.task)] = self.task
        clone = copy.copy(self)
        vars(clone).update(copy.deepcopy(vars(self), memo))
        return clone


class TaskEnvironment(Environment):
    """An environment whose episodes pose one problem each.

    ``reset`` takes the problem from ``options["task"]``, or draws it from ``tasks`` with the seed of the episode.
    A subclass defines `start`, `first_result`, ``step``, ``render_messages`` and ``parse_action``.

    Args:
        config: options, a `TaskConfig` or any dataclass with its fields. Built-in environments take all defaults if it
            is ``None``.
        observation_space: observation space of every agent.
        action_space: action space of every agent.
    """

    tasks: TaskSet
    max_question_chars: ClassVar[int] = 100_000
    """Maximum number of characters of a problem; a longer one is an error."""

    def __init__(self, config: Any, observation_space: Space, action_space: Space) -> None:
        self.config = config
        with mounted("tasks"):
            self.tasks = make(config.tasks, config.split)
        self._observation_space, self._action_space = observation_space, action_space

    @abstractmethod
    def start(self, seed: int, task: Task) -> TaskState:
        """Return the state at the start of an episode.

        Raises:
            ReasonEnvsError: this environment cannot pose the task.
        """

    @abstractmethod
    def first_result(self) -> StepResult:
        """Return the result of ``reset`` for the state that `start` returned."""

    @property
    def task(self) -> Task:
        """Problem of the current episode."""
        self.check_started()
        return self.state.task

    def observation_space(self, agent: AgentId) -> Space:
        """Return the observation space, the same for every agent."""
        return self._observation_space

    def action_space(self, agent: AgentId) -> Space:
        """Return the action space, the same for every agent."""
        return self._action_space

    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Start an episode on ``options["task"]`` (a ``Task`` or a mapping), or on the task that the seed draws."""
        seed = self.episode_seed(seed)
        task = choose_task(self.tasks, seed, options)
        if len(task.question) > self.max_question_chars:
            raise ReasonEnvsError(
                f"Task {task.id!r} has {len(task.question)} characters; the maximum is {self.max_question_chars}: "
                "shorten it or remove it from the task set."
            )
        self.state = self.start(seed, task)
        return self.first_result()

    def check_running(self) -> None:
        """Raise an error if no episode is running."""
        self.check_started()
        if self.state.done:
            raise NoEpisodeError("The episode has ended: call reset first.")


@dataclass
class TextState(TaskState):
    """State of an episode in which one agent writes text."""

    responses: list[str] = field(default_factory=list)
    """Responses of the agent in order; an action that is not text is an empty response."""
    replies: list[str] = field(default_factory=list)
    """Replies to the responses in order. The response that ends the episode has none."""
    reward: float = 0.0
    """Sum of the rewards."""

    @property
    def turn(self) -> int:
        """Number of responses so far, the current one included."""
        return len(self.responses)


@dataclass(frozen=True)
class Reply:
    """Result of a response in a `TextEnvironment`."""

    reward: float
    """Reward of the response."""
    text: str | None = None
    """Text that is added to the observation; ``None`` ends the episode. The texts of an episode may together have
    ``max_question_chars`` characters."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the step's ``info``. Evaluations read ``correct`` from the last step."""


class TextEnvironment(TaskEnvironment):
    """An environment in which one agent reads a problem and writes responses.

    A subclass defines `answer`, which replies to a response and sets its reward. The observation is the problem,
    followed by the replies, one per line.

    ``info`` names the task (``task_id``); after a response it also holds ``valid_action`` (``False`` if the action is
    not text or is too long) and the entries of the reply.
    """

    agents = ("player",)
    prompt: str = "{question}"
    """Template of the user message; ``{question}`` is the observation."""
    system_prompt: str | None = None
    """Text of a system message before the prompt; ``None`` sends no system message."""

    def __init__(self, config: Any, *, max_response_chars: int = 20_000) -> None:
        super().__init__(config, UnicodeText(2 * self.max_question_chars), UnicodeText(max_response_chars))

    @abstractmethod
    async def answer(self, response: str) -> Reply:
        """Reply to a response, which is empty if the action is invalid. ``state.turn`` already counts the response."""

    def start(self, seed: int, task: Task) -> TextState:
        """Return the state at the start of an episode."""
        return TextState(seed, task)

    def first_result(self) -> StepResult:
        """Return the problem for the agent."""
        (agent,) = self.agents
        return StepResult({agent: self.observe(agent)}, info=self.info())

    def info(self) -> dict[str, Any]:
        """Return the entries of every ``info``."""
        return {"task_id": self.task.id}

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Reply to the agent's response."""
        self.check_running()
        state, (agent,) = self.state, self.agents
        action = actions.get(agent)
        valid = self.action_space(agent).contains(action)
        response = action if isinstance(action, str) else ""
        state.responses.append(response)
        reply = await self.answer(response if valid else "")
        state.reward += reply.reward
        rewards, info = {agent: reply.reward}, {**self.info(), "valid_action": valid, **reply.info}
        if reply.text is not None:
            state.replies.append(reply.text)
            return StepResult({agent: self.observe(agent)}, rewards, info=info)
        state.done = True
        return StepResult({}, rewards, {agent: True}, {agent: False}, info=info)

    def observe(self, agent: AgentId) -> str:
        """Return the problem, followed by the replies."""
        return "\n".join([self.task.question, *self.state.replies])

    def render_messages(self, observation: str) -> list[Message]:
        """Fill the observation into the prompt, as a user message after the system message."""
        return chat(fill(self.prompt, question=observation), self.system_prompt)

    def parse_action(self, text: str) -> str:
        """Return the text unchanged."""
        return text

    def render(self) -> str | None:
        """Return the episode as text (``render_mode="ansi"``)."""
        return None if self.render_mode is None or self.state is None else self.draw()

    def draw(self) -> str:
        """Write the problem, the responses with their replies, and the reward as text."""
        lines, state = [f"Problem: {self.task.question}"], self.state
        for response, reply in zip_longest(state.responses, state.replies):
            lines += [f"Response: {response}", *([] if reply is None else [f"Reply: {reply}"])]
        return "\n".join([*lines, f"Reward: {state.reward}"] if state.responses else lines)


def choose_task(tasks: TaskSet, seed: int, options: Mapping[str, Any] | None) -> Task:
    """Return ``options["task"]`` if it is given, else the task that the episode's seed draws.

    A mapping with ``question`` and ``answer``, both text, becomes a task. Its ``metadata`` and ``id`` are optional; the
    default ``id`` is a hash of the question.
    """
    given = (options or {}).get("task")
    if given is None:
        return tasks.sample(seed)
    if isinstance(given, Task):
        return given
    if not isinstance(given, Mapping):
        raise ReasonEnvsError(f"options['task'] must be a Task or a mapping with question and answer, not {given!r}.")
    with mounted("options['task']"):
        check_options("a task", {**given, "id": "", "metadata": {}}, options_of(Task))
    digest = hashlib.blake2b(given["question"].encode(), digest_size=8).hexdigest()
    return Task(**{"id": f"given/{digest}", **given})
