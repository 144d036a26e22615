"""What all Petting environments share: turns, history, rewards, observations and rendering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from reason_envs.core import Action, AgentId, Message, StepResult
from reason_envs.envs.petting.config import SINGLE, PettingConfig
from reason_envs.envs.petting.program_runner import ProgramRunner
from reason_envs.envs.petting.render_image import draw_image
from reason_envs.envs.petting.state import Effect, Entry, PettingState
from reason_envs.envs.prompt_templates import chat
from reason_envs.envs.task_environment import TaskEnvironment
from reason_envs.errors import unknown_name
from reason_envs.sandbox import make_sandbox
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import Task
from reason_envs.views import EpisodeView, GridView, TurnView

SOLO: AgentId = "solo"
"""The agent of ``roles="single"``."""
MAX_OUTCOME_CHARS = 300
"""Longest outcome of a decision that others read."""
COUNTS = ("unparsable_actions", "missing_actions", "out_of_turn_actions", "program_errors", "program_timeouts")


class Petting(TaskEnvironment):
    """Roles decide in a fixed order, ``max_turns`` times each unless the episode ends before.

    A decision is a text. ``step`` pays the agent that decided ``alpha * team + local``: ``team`` is the change of the
    problem's ``value`` that the decision caused, ``local`` the role's own part. A role that cannot move the state (one
    that writes programs or tests) is paid by ``local`` for the change of what its contribution is worth; where it makes
    none, that is what adding nothing is worth. Both telescope, so that delay earns nothing. An episode always ends by
    itself (``terminated``): the observation tells the turn, so that running out of turns is a loss and no cut.

    A response that cannot be read costs ``bad_format`` and its turn; so does an agent that does not answer. Actions of
    agents whose turn it is not are ignored. All are counted in ``info``, beside ``success``, ``progress``,
    ``episode_length`` (turns begun), ``team_reward`` and ``local_reward`` of the decision, and ``role``, who made it.

    Args:
        config: the options.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012
    roles: ClassVar[tuple[str, ...]]
    """Who decides, in the order of a turn."""
    prompts: ClassVar[dict[str, str]]
    """The built-in system message of each role."""
    count_names: ClassVar[tuple[str, ...]] = ()
    """What the environment counts beside ``COUNTS``."""
    colours: ClassVar[dict[str, str]] = {}
    """Colour of each character of the board in pictures; none: the board is text."""

    config: PettingConfig

    def __init__(self, config: PettingConfig) -> None:
        shown = len(self.roles) * config.history * (config.max_shown_chars + MAX_OUTCOME_CHARS + 100)
        observation_space = UnicodeText(2 * self.max_question_chars + shown)
        super().__init__(config, observation_space, UnicodeText(config.max_response_chars))
        self.agents = (SOLO,) if config.roles == SINGLE else self.roles
        sandbox = self.own("sandbox", make_sandbox, config.sandbox)
        self.programs = ProgramRunner(sandbox, config.program_seconds)
        self.messages = dict(self.prompts if config.prompts is None else config.prompts)
        for role in self.messages:
            if role not in self.roles:
                raise unknown_name("role in prompts", role, self.roles)

    # --- what each environment says

    @abstractmethod
    def begin(self, task: Task) -> Any:
        """Return the state of a problem at the start; a task that is none of ours is an error."""

    @abstractmethod
    async def act(self, role: str, text: str) -> Effect:
        """Return what a response does."""

    @abstractmethod
    def board(self, game: Any) -> str:
        """Write the problem as it stands, for every role."""

    @abstractmethod
    def value(self, game: Any) -> float:
        """Return what a state is worth to the team; a decision earns the change."""

    @abstractmethod
    def progress(self, game: Any) -> float:
        """Return how much of the problem is solved, 1 being all of it."""

    @abstractmethod
    def solved(self, game: Any) -> bool:
        """Whether the problem is solved."""

    def finished(self, game: Any) -> bool:
        """Whether the episode ends before its last turn."""
        return self.solved(game)

    def idle_worth(self, game: Any) -> dict[str, float]:
        """Return what a contribution is worth that adds nothing, for each role that cannot move the state."""
        return {}

    def loss(self) -> float:
        """Return what the team loses where an episode ends unsolved."""
        return 0.0

    def note(self, role: str, game: Any) -> str:
        """Return what a role has to know and neither its prompt nor the board tells; mostly nothing."""
        return ""

    def picture(self, game: Any) -> GridView | None:
        """Return the problem as a picture of cells; ``None`` where it is text."""
        return None

    # --- the contract

    def start(self, seed: int, task: Task) -> PettingState:
        """Return the state at the start of an episode."""
        game = self.begin(task)
        counts = dict.fromkeys((*COUNTS, *self.count_names), 0)
        return PettingState(seed, task, game, self.solved(game), counts, worth=self.idle_worth(game))

    def first_result(self) -> StepResult:
        """Return the observation of the agent that acts first."""
        return StepResult({self.actor: self.observe(self.actor)}, info={"role": self.role, **self._figures()})

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Take the decision of the agent whose turn it is."""
        self.check_running()
        state, role, actor, before = self.state, self.role, self.actor, self.value(self.state.game)
        effect = await self._effect(role, actor, actions)
        state.game = effect.game
        state.decisions += 1
        state.done = self.finished(state.game) or state.decisions == len(self.roles) * self.config.max_turns
        team = self.value(state.game) - before
        if state.done and not self.solved(state.game):
            team -= self.loss()
        local = effect.local + self._gain(role, effect.worth)
        info = {
            "role": role,
            "valid_action": effect.valid,
            "team_reward": team,
            "local_reward": local,
            **self._figures(),
        }
        rewards = {actor: self.config.alpha * team + local}
        if not state.done:
            return StepResult({self.actor: self.observe(self.actor)}, rewards, info=info)
        ended = dict.fromkeys(self.agents, True)
        final = {agent: self.observe(agent) for agent in self.agents}
        return StepResult({}, rewards, ended, dict.fromkeys(self.agents, False), final, info)

    def observe(self, agent: AgentId) -> str:
        """Write what an agent sees now, whoever's turn it is: role and turn, the board, the latest decisions."""
        state = self.state
        role = self.role if agent == SOLO else agent
        note = self.note(role, state.game)
        lines = [f"{role} {self.turn}/{self.config.max_turns}", self.board(state.game), *([note] if note else [])]
        return "\n".join([*lines, *map(self._shown, state.entries[-len(self.roles) * self.config.history :])])

    @property
    def role(self) -> str:
        """The role whose decision is next."""
        return self.roles[self.state.decisions % len(self.roles)]

    @property
    def actor(self) -> AgentId:
        """The agent whose decision is next."""
        return SOLO if self.config.roles == SINGLE else self.role

    @property
    def turn(self) -> int:
        """The turn that is under way, counted from 1; the last one where the episode has ended."""
        decisions = self.state.decisions - self.state.done
        return decisions // len(self.roles) + 1

    def render_messages(self, observation: str) -> list[Message]:
        """Write an observation as a user message, after the system message of its role if there is one."""
        return chat(observation, self.messages.get(observation.partition(" ")[0]))

    def parse_action(self, text: str) -> str:
        """Take the text as it is; what it means depends on whose turn it is."""
        return text

    def render(self) -> Any:
        """Show the board and every decision as text (``ansi``) or as an image [H, W, 3] (``rgb_array``)."""
        if self.render_mode is None or self.state is None:
            return None
        board = self.board(self.state.game)
        entries = [f"{entry.role}: {entry.text}\n= {entry.outcome}" for entry in self.state.entries]
        verdict = f"turn {self.turn}/{self.config.max_turns}, progress {self.progress(self.state.game):.2f}"
        if self.render_mode == "ansi":
            return "\n".join([verdict, board, *entries])
        return draw_image(board, self.colours, [verdict, *entries])

    def view(self) -> EpisodeView | None:
        """Return what came of each decision, and the pictures of the problem where it has any."""
        if self.state is None:
            return None
        games = [*(entry.before for entry in self.state.entries), self.state.game]
        turns = [
            TurnView(entry.outcome, None if after is before else self.picture(after))
            for entry, (before, after) in zip(self.state.entries, pairwise(games), strict=True)
        ]
        return EpisodeView(grid=self.picture(games[0]), turns=turns)

    # --- for the environments

    def failed(self, outcome: str, *counts: str) -> Effect:
        """Return the effect of a response that contributes nothing and costs ``bad_format``."""
        game, cost = self.state.game, self.config.bad_format
        worth = self.idle_worth(game).get(self.role)
        return Effect(game, outcome, -cost, worth, dict.fromkeys(counts, 1), valid=False)

    def unreadable(self, outcome: str = "unreadable") -> Effect:
        """Return the effect of a response that cannot be read."""
        return self.failed(outcome, "unparsable_actions")

    # --- how a step goes

    def _shown(self, entry: Entry) -> str:
        """Write a decision for an observation, which must not grow with what a role that rambles wrote."""
        over = len(entry.text) - self.config.max_shown_chars
        text = f"[{over} characters left out] {entry.text[over:]}" if over > 0 else entry.text
        return f"{entry.role}: {text}\n= {entry.outcome}"

    async def _effect(self, role: str, actor: AgentId, actions: Mapping[AgentId, Action]) -> Effect:
        """Let the role act, and note it."""
        given = actions.get(actor)
        text = given if isinstance(given, str) and self._action_space.contains(given) else ""
        if given is None:
            effect = self.failed("no answer", "missing_actions")
        elif not text.strip():
            effect = self.unreadable()
        else:
            effect = await self.act(role, text)
        for name, count in effect.counts.items():
            self.state.counts[name] += count
        self.state.counts["out_of_turn_actions"] += sum(agent != actor for agent in actions)
        self.state.entries.append(Entry(role, text.strip(), effect.outcome[:MAX_OUTCOME_CHARS], self.state.game))
        return effect

    def _gain(self, role: str, worth: float | None) -> float:
        if worth is None:
            return 0.0
        before = self.state.worth.get(role, 0.0)
        self.state.worth[role] = worth
        return worth - before

    def _figures(self) -> dict[str, Any]:
        state = self.state
        solved = self.solved(state.game)
        return {
            "task_id": self.task.id,
            "turn": self.turn,
            "episode_length": -(-state.decisions // len(self.roles)),
            "success": solved,
            "correct": solved,
            "progress": self.progress(state.game),
            "solved_at_start": state.solved_at_start,
            **state.counts,
        }
