"""Base class of the Petting environments: turns, history, rewards, observations and rendering."""

from abc import abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from reason_envs.core import Action, AgentId, Message, StepResult
from reason_envs.envs.petting.config import SINGLE, PettingConfig
from reason_envs.envs.petting.state import DecisionResult, Entry, PettingState
from reason_envs.envs.prompt_templates import chat
from reason_envs.envs.task_environment import TaskEnvironment
from reason_envs.resources import read_table
from reason_envs.rewards.code.grade import extract_code
from reason_envs.sandbox import Program, make_sandbox
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import Task
from reason_envs.validation import check_choice
from reason_envs.views import EpisodeView, GridView, TurnView

GAMES: dict[str, dict[str, dict[str, str]]] = read_table(__file__, "games.yaml")
"""Prompts and colours of each game."""
SOLO: AgentId = "solo"
"""Agent of ``roles="single"``."""
MAX_OUTCOME_CHARS = 300
"""Maximum number of characters of an outcome in an observation."""
COUNTS = ("unparsable_actions", "missing_actions", "out_of_turn_actions", "program_errors", "program_timeouts")
"""Counters in the ``info`` of every Petting environment."""


class Petting(TaskEnvironment):
    """Roles decide in a fixed order, at most ``max_turns`` times each.

    A decision is a text. Its reward is ``alpha * team + local``. ``team`` is the change of the game's `value`, and
    ``local`` is the role's own reward: a role that cannot change the game, because it writes programs or tests, earns
    the change of its contribution value. Without a contribution, this value is the `baseline_contribution`. Both
    rewards telescope, so delay earns nothing.

    An episode is never truncated: the observation shows the turn, so running out of turns is a loss (``terminated``).

    An unreadable or missing response costs ``bad_format`` and the turn. Actions of agents that are not to act are
    ignored. ``info`` counts all of these. It also holds ``success``, ``progress``, ``episode_length`` (number of turns
    begun), and, for the latest decision, ``role``, ``team_reward`` and ``local_reward``.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012
    config_class: ClassVar[type[PettingConfig]]
    """Dataclass of the options."""
    roles: ClassVar[tuple[str, ...]]
    """Roles in the order of their decisions in a turn."""
    prompts: ClassVar[dict[str, str]]
    """Built-in system message of each role."""
    count_names: ClassVar[tuple[str, ...]] = ()
    """Counters of the environment besides ``COUNTS``."""
    colours: ClassVar[dict[str, str]] = {}
    """Colour of each character of the board in images; empty: the board is text."""

    config: PettingConfig

    def __init__(self, config: PettingConfig | None = None) -> None:
        config = config or self.config_class()
        shown = len(self.roles) * config.history * (config.max_shown_chars + MAX_OUTCOME_CHARS + 100)
        observation_space = UnicodeText(2 * self.max_question_chars + shown)
        super().__init__(config, observation_space, UnicodeText(config.max_response_chars))
        self.agents = (SOLO,) if config.roles == SINGLE else self.roles
        self.system_prompts = dict(self.prompts if config.prompts is None else config.prompts)
        for role in self.system_prompts:
            check_choice("prompts", role, self.roles)
        self.sandbox = self.own("sandbox", make_sandbox, config.sandbox)
        self.limits = self.sandbox.limits_for(config.program_seconds)

    # --- defined by each environment

    @abstractmethod
    def new_game(self, task: Task) -> Any:
        """Return the game of a task at the start.

        Raises:
            ReasonEnvsError: the task does not belong to this environment.
        """

    @abstractmethod
    async def act(self, role: str, text: str) -> DecisionResult:
        """Apply the response of a role to ``state.game``, which stays unchanged, and return the result."""

    @abstractmethod
    def progress(self, game: Any) -> float:
        """Return the solved share of the problem, from 0 to 1."""

    def board(self, game: Any) -> str:
        """Return the current game as text, the same for every role; by default its question."""
        return game.question

    def value(self, game: Any) -> float:
        """Return the value of a game to the team; a decision earns its change. By default it is the progress."""
        return self.progress(game)

    def solved(self, game: Any) -> bool:
        """Return whether the problem is solved."""
        return self.progress(game) == 1.0

    def finished(self, game: Any) -> bool:
        """Return whether the episode ends now."""
        return self.solved(game)

    def baseline_contribution(self, game: Any) -> dict[str, float]:
        """Return the value of an empty contribution, for each role that cannot change the game."""
        return {}

    def failure_penalty(self) -> float:
        """Return the penalty of the team if an episode ends unsolved."""
        return 0.0

    def role_hint(self, role: str, game: Any) -> str:
        """Return a hint for a role that its prompt and the board do not give; by default empty."""
        return ""

    def picture(self, game: Any) -> GridView | None:
        """Return the game as a picture of cells; ``None`` if it is text."""
        return None

    # --- episodes

    def start(self, seed: int, task: Task) -> PettingState:
        """Return the state at the start of an episode."""
        game = self.new_game(task)
        counts, baseline = dict.fromkeys((*COUNTS, *self.count_names), 0), self.baseline_contribution(game)
        return PettingState(seed, task, game, self.solved(game), counts, contribution_values=baseline)

    def first_result(self) -> StepResult:
        """Return the observation of the agent that acts first."""
        return StepResult({self.actor: self.observe(self.actor)}, info={"role": self.role, **self._metrics()})

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Apply the decision of the agent that acts."""
        self.check_running()
        state, role, actor, before = self.state, self.role, self.actor, self.value(self.state.game)
        result = await self._decide(role, actor, actions)
        state.game = result.game
        state.decisions += 1
        state.done = self.finished(state.game) or state.decisions == len(self.roles) * self.config.max_turns
        team = self.value(state.game) - before
        if state.done and not self.solved(state.game):
            team -= self.failure_penalty()
        local = result.local
        if (contribution := result.contribution_value) is not None:
            local += contribution - state.contribution_values.get(role, 0.0)
            state.contribution_values[role] = contribution
        info = {
            "role": role,
            "valid_action": result.valid,
            "team_reward": team,
            "local_reward": local,
            **self._metrics(),
        }
        rewards = {actor: self.config.alpha * team + local}
        if not state.done:
            return StepResult({self.actor: self.observe(self.actor)}, rewards, info=info)
        ended = dict.fromkeys(self.agents, True)
        final = {agent: self.observe(agent) for agent in self.agents}
        return StepResult({}, rewards, ended, dict.fromkeys(self.agents, False), final, info)

    def observe(self, agent: AgentId) -> str:
        """Return the current observation of any agent: role and turn, the board, the latest decisions."""
        state = self.state
        role = self.role if agent == SOLO else agent
        hint = self.role_hint(role, state.game)
        lines = [f"{role} {self.turn}/{self.config.max_turns}", self.board(state.game), *([hint] if hint else [])]
        return "\n".join([*lines, *map(self._shown, state.entries[-len(self.roles) * self.config.history :])])

    @property
    def role(self) -> str:
        """Role that decides next."""
        return self.roles[self.state.decisions % len(self.roles)]

    @property
    def actor(self) -> AgentId:
        """Agent that decides next."""
        return SOLO if self.config.roles == SINGLE else self.role

    @property
    def turn(self) -> int:
        """Number of the current turn, from 1; after the end, of the last turn."""
        return (self.state.decisions - self.state.done) // len(self.roles) + 1

    def render_messages(self, observation: str) -> list[Message]:
        """Convert an observation to a user message, after the system message of its role if there is one."""
        return chat(observation, self.system_prompts.get(observation.partition(" ")[0]))

    def parse_action(self, text: str) -> str:
        """Return the text unchanged; its meaning depends on the role."""
        return text

    def render(self) -> Any:
        """Return the board and every decision as text (``ansi``) or as an image [H, W, 3] (``rgb_array``)."""
        if self.render_mode is None or self.state is None:
            return None
        board = self.board(self.state.game)
        entries = [f"{entry.role}: {entry.text}\n= {entry.outcome}" for entry in self.state.entries]
        heading = f"turn {self.turn}/{self.config.max_turns}, progress {self.progress(self.state.game):.2f}"
        if self.render_mode == "ansi":
            return "\n".join([heading, board, *entries])
        from reason_envs.envs.petting.render_image import draw_image  # loads matplotlib

        return draw_image(board, self.colours, [heading, *entries])

    def view(self) -> EpisodeView | None:
        """Return the outcome of each decision, and pictures of the game if it has any."""
        if self.state is None:
            return None
        games = [*(entry.before for entry in self.state.entries), self.state.game]
        turns = [
            TurnView(entry.outcome, None if after is before else self.picture(after))
            for entry, (before, after) in zip(self.state.entries, pairwise(games), strict=True)
        ]
        return EpisodeView(grid=self.picture(games[0]), turns=turns)

    # --- for subclasses

    def failed(self, outcome: str, *counts: str) -> DecisionResult:
        """Return the result of a response that contributes nothing, costs ``bad_format`` and adds 1 to ``counts``."""
        game, cost = self.state.game, self.config.bad_format
        baseline = self.baseline_contribution(game).get(self.role)
        return DecisionResult(game, outcome, -cost, baseline, dict.fromkeys(counts, 1), valid=False)

    def unreadable(self, outcome: str = "unreadable") -> DecisionResult:
        """Return the result of an unreadable response."""
        return self.failed(outcome, "unparsable_actions")

    async def printed(self, response: str, preamble: str = "") -> str | DecisionResult:
        """Run the program in a response after a ``preamble``, lines that define its variables.

        Returns:
            The printed text, or the result of a response without a program or with one that failed.
        """
        code = extract_code(response)
        if not code.strip():
            return self.unreadable("empty")
        outcome = await self.sandbox.run(Program(f"{preamble}\n{code}", limits=self.limits))
        if outcome.status == "ok":
            return outcome.stdout
        if outcome.status == "timeout":
            return self.failed("timeout", "program_timeouts")
        return self.failed(" ".join(f"{outcome.status}: {outcome.reason}".split()), "program_errors")

    # --- parts of a step

    def _shown(self, entry: Entry) -> str:
        """Return a decision for an observation, shortened to ``max_shown_chars``."""
        over = len(entry.text) - self.config.max_shown_chars
        text = f"[{over} characters left out] {entry.text[over:]}" if over > 0 else entry.text
        return f"{entry.role}: {text}\n= {entry.outcome}"

    async def _decide(self, role: str, actor: AgentId, actions: Mapping[AgentId, Action]) -> DecisionResult:
        """Apply the response of the acting role, and add it to counters and history."""
        given = actions.get(actor)
        text = given if isinstance(given, str) and self._action_space.contains(given) else ""
        if given is None:
            result = self.failed("no answer", "missing_actions")
        elif not text.strip():
            result = self.unreadable()
        else:
            result = await self.act(role, text)
        for name, count in result.counts.items():
            self.state.counts[name] += count
        self.state.counts["out_of_turn_actions"] += sum(agent != actor for agent in actions)
        self.state.entries.append(Entry(role, text.strip(), result.outcome[:MAX_OUTCOME_CHARS], self.state.game))
        return result

    def _metrics(self) -> dict[str, Any]:
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
