"""PlannerSolver-v0: the planner writes a guideline, a frozen solver answers with it, its answer is the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, Message, StepResult, derive_seed
from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, check_places, fill
from reason_envs.envs.task_environment import MAX_QUESTION_CHARS, build_reward, check_question, choose_task
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.chat import fits
from reason_envs.llm.engine import ContextLengthError, Generation, GenerationRequest, Sampling
from reason_envs.rewards import Reward, RewardConfig
from reason_envs.rewards.leak.find import find_leak
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import Task, make
from reason_envs.validation import mounted
from reason_envs.views import CallView, EpisodeView

PLANNER: AgentId = "planner"
POLICY = "policy"
"""As ``solver``: the policy's own engine without the adapter, which a run puts in."""


@dataclass
class SolverRewardConfig(RewardConfig):
    """What a guideline pays by the solver's answer: its accuracy alone."""

    wrong: float = 0.0
    """Paid where the solver's answer is wrong."""
    no_answer: float = 0.0
    """Paid where the solver gave no answer, and for a guideline that it cannot be asked with."""


@dataclass
class PlannerSolverConfig:
    """Options of PlannerSolver-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    split: str = "train"
    """Which part of them."""
    solver: Any = field(default_factory=lambda: {"name": "transformers", "model": "embedded:planner_solver"})
    """The frozen solver: an engine's name, a mapping of its ``name`` and options (``device`` among them), or an engine.
    ``policy``, in a run: the engine of the policy that is trained, without its LoRA adapter."""
    solver_samples: int = 1
    """Answers of the solver to a guideline; the reward is their mean."""
    solver_temperature: float = 0.0
    """Sampling temperature of the solver; 0 takes its most likely answer."""
    solver_max_tokens: int = 128
    """Most tokens of an answer of the solver."""
    leak_check: bool = True
    """Pay a guideline that gives the answer away like an empty answer (see ``reason_envs.rewards.leak.find``)."""
    planner_prompt: str = PLANNER_PROMPT
    """What the planner is asked; ``{question}`` is the problem."""
    solver_prompt: str = SOLVER_PROMPT
    """What the solver is asked; ``{question}`` is the problem, ``{guideline}`` what the planner wrote."""
    reward: Any = field(default_factory=SolverRewardConfig)
    """What judges the solver's answer: a ``RewardConfig`` or a mapping of its fields, a reward's name,
    ``"package.module:function"``, or a function."""
    max_guideline_chars: int = 20_000
    """Longest guideline in characters; a longer one is an invalid action."""

    def __post_init__(self) -> None:
        """Refuse sizes and templates that cannot work."""
        if self.solver_samples < 1:
            raise ReasonEnvsError(f"solver_samples={self.solver_samples} must be at least 1.")
        if self.solver_samples > 1 and self.solver_temperature == 0:
            raise ReasonEnvsError(
                f"solver_samples={self.solver_samples} with solver_temperature=0 would draw one answer so many times: "
                "give a temperature above 0, or solver_samples=1."
            )
        check_places("planner_prompt", self.planner_prompt, ["question"])
        check_places("solver_prompt", self.solver_prompt, ["question", "guideline"])
        self.solver_sampling()

    def solver_sampling(self) -> Sampling:
        """How the solver's tokens are drawn."""
        return Sampling(self.solver_max_tokens, self.solver_temperature)


@dataclass
class PlannerSolverState:
    """What an episode has seen."""

    seed: int
    """The episode's seed."""
    guideline: str | None = None
    """What the planner wrote; ``None`` before it came."""
    answers: tuple[str, ...] = ()
    """What the solver wrote."""
    reward: float | None = None
    """What the guideline earned."""


class PlannerSolver(Environment):
    """A problem is shown to the ``planner``, whose guideline the solver follows; the episode ends with its answer.

    The observation is the problem's text, the action the guideline. What is no text, is blank, or is too long for
    ``max_guideline_chars`` or the solver's context reaches no solver and is paid like an empty answer, 0 by default.

    ``info`` names the task (``task_id``) and, in the end, holds ``solver_texts``, ``correct`` and ``no_answer`` (shares
    of the solver's answers), ``extracted``, ``leak`` and ``leaked_text``, ``valid_action``, ``empty``, ``overlong``,
    and what the solver cost: ``solver_calls``, ``generated_tokens``.

    Args:
        config: the options; all defaults where it is ``None``.
    """

    agents = (PLANNER,)
    decisions_per_episode = 1

    def __init__(self, config: PlannerSolverConfig | None = None) -> None:
        self.config = config = config or PlannerSolverConfig()
        if config.solver == POLICY:
            raise ReasonEnvsError(
                f"solver={POLICY} is the engine of a run's policy (python -m agents.train env.solver={POLICY}), and "
                "there is no run here: pass solver=reason_envs.llm.adapter_views.AdapterView(engine, BASE_MODEL), or "
                "another engine."
            )
        with mounted("tasks"):
            self.tasks = make(config.tasks, config.split)
        with mounted("reward"):
            self.reward = build_reward(config.reward, SolverRewardConfig)
        with mounted("solver"):
            self.solver = self.own(make_engine(config.solver), config.solver)
        self.task: Task | None = None
        self._observation_space = UnicodeText(MAX_QUESTION_CHARS)
        self._action_space = UnicodeText(config.max_guideline_chars)

    def observation_space(self, agent: AgentId) -> UnicodeText:
        """Return the space of problem texts."""
        return self._observation_space

    def action_space(self, agent: AgentId) -> UnicodeText:
        """Return the space of guidelines."""
        return self._action_space

    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Pose a problem: ``options["task"]`` (a ``Task`` or mapping), else the one that belongs to the seed."""
        state = PlannerSolverState(self.episode_seed(seed))
        task = choose_task(self.tasks, state.seed, options)
        check_question(task)
        if not self._fits(task, ""):
            raise ReasonEnvsError(
                f"Task {task.id!r} leaves no room for solver_max_tokens={self.config.solver_max_tokens} in the "
                "solver's context, even without a guideline: shorten the problem or lower solver_max_tokens."
            )
        self.state, self.task = state, task
        return StepResult({PLANNER: task.question}, info={"task_id": task.id})

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Let the solver answer with the planner's guideline, and end the episode."""
        if self.task is None or self.state.guideline is not None:
            raise ReasonEnvsError("No problem is waiting for a guideline: call reset first.")
        action, task, state = actions[PLANNER], self.task, self.state
        valid = self._action_space.contains(action) and bool(action.strip())
        state.guideline = action if isinstance(action, str) else ""
        generations = await self._solve(task, state.guideline) if valid else []
        state.answers = tuple(generation.text for generation in generations or ())
        leaked = find_leak(state.guideline, task.question, task.answer) if valid else None
        verdicts = await gather(*(self._judge(task, text, i) for i, text in enumerate(state.answers or [""])))
        paid = [await self._judge(task, "", 0)] if leaked and self.config.leak_check else verdicts
        state.reward = fmean(verdict.value for verdict in paid)
        info = {
            "task_id": task.id,
            "valid_action": valid,
            "empty": not state.guideline.strip(),
            "overlong": generations is None or len(state.guideline) > self.config.max_guideline_chars,
            "leak": leaked is not None,
            "leaked_text": leaked or "",
            "solver_texts": list(state.answers),
            "solver_calls": len(state.answers),
            "generated_tokens": sum(generation.generated_tokens for generation in generations or ()),
            **_summary(verdicts),
        }
        return StepResult({}, {PLANNER: state.reward}, {PLANNER: True}, {PLANNER: False}, info=info)

    def solver_messages(self, task: Task, guideline: str) -> list[Message]:
        """Write what the solver is asked."""
        content = fill(self.config.solver_prompt, question=task.question, guideline=guideline)
        return [{"role": "user", "content": content}]

    def render_messages(self, observation: str) -> list[Message]:
        """Write what the planner is asked as a user message."""
        return [{"role": "user", "content": fill(self.config.planner_prompt, question=observation)}]

    def parse_action(self, text: str) -> str:
        """Take the text as it is, without blanks around it."""
        return text.strip()

    def render(self) -> str | None:
        """Return problem, guideline, the solver's answers and the reward as text (``render_mode="ansi"``)."""
        if self.render_mode is None or self.task is None:
            return None
        lines = [f"Problem: {self.task.question}"]
        if self.state.guideline is not None:
            answers = [f"Solver: {answer}" for answer in self.state.answers]
            lines += [f"Guideline: {self.state.guideline}", *answers, f"Reward: {self.state.reward}"]
        return "\n".join(lines)

    def view(self) -> EpisodeView | None:
        """Return what the solver was asked and answered."""
        if self.task is None or not self.state.answers:
            return None
        asked = {"prompt": self.solver_messages(self.task, self.state.guideline)[-1]["content"]}
        return EpisodeView(calls=[CallView("solver", asked, {"response": answer}) for answer in self.state.answers])

    async def _solve(self, task: Task, guideline: str) -> list[Generation] | None:
        """Ask the solver; ``None`` where the guideline leaves it no room to answer."""
        if not self._fits(task, guideline):
            return None
        seed = derive_seed(self.state.seed, "solver", 0, 0)
        sampling, samples = self.config.solver_sampling(), self.config.solver_samples
        try:
            return await self.solver.generate(
                GenerationRequest(self.solver_messages(task, guideline), seed, sampling, samples)
            )
        except ContextLengthError:  # a server that counts tokens itself
            return None

    def _fits(self, task: Task, guideline: str) -> bool:
        return fits(self.solver, self.solver_messages(task, guideline), self.config.solver_max_tokens)

    async def _judge(self, task: Task, answer: str, number: int) -> Reward:
        return await self.reward(answer, task, derive_seed(self.state.seed, PLANNER, 0, number))


def _summary(verdicts: Sequence[Reward]) -> dict[str, Any]:
    """Join the infos of the solver's answers: means of what is counted, lists of the rest."""
    names = dict.fromkeys(name for verdict in verdicts for name in verdict.info)
    columns: dict[str, list[Any]] = {name: [verdict.info.get(name) for verdict in verdicts] for name in names}
    return {
        name: fmean(values) if all(isinstance(value, int | float) for value in values) else values
        for name, values in columns.items()
    }
