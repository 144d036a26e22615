"""PlannerSolver-v0: the planner writes a guideline, a frozen solver follows it, the solver's answer is the reward."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from reason_envs.batching import gather
from reason_envs.core import AgentId, Message, derive_seed
from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, chat, check_places, fill
from reason_envs.envs.task_environment import Reply, TaskConfig, TextEnvironment, TextState
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.chat import fits
from reason_envs.llm.engine import ContextLengthError, Generation, GenerationRequest, Sampling
from reason_envs.rewards import Reward, RewardConfig, build_reward
from reason_envs.rewards.leak.find import find_leak
from reason_envs.tasks import Task
from reason_envs.validation import limited, mounted
from reason_envs.views import CallView, EpisodeView

PLANNER: AgentId = "planner"
POLICY = "policy"
"""Value of ``solver`` for the policy's own engine without its adapter. A training run replaces it."""


@dataclass
class SolverRewardConfig(RewardConfig):
    """Reward of the solver's answer: by default its accuracy."""

    wrong: float = 0.0
    """Reward of a wrong answer of the solver."""
    no_answer: float = 0.0
    """Reward if the solver gives no answer, or cannot be asked because the guideline is invalid."""


@dataclass
class PlannerSolverConfig(TaskConfig):
    """Options of PlannerSolver-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    solver: Any = field(default_factory=lambda: {"name": "transformers", "model": "embedded:planner_solver"})
    """Frozen solver: the name of an engine, a mapping of its ``name`` and options, or an engine. In a training run
    ``policy`` is the policy's engine without its LoRA adapter."""
    solver_samples: int = limited(1, at_least=1)
    """Number of the solver's answers per guideline; the reward is their mean."""
    solver_temperature: float = limited(0.0, at_least=0)
    """Sampling temperature of the solver; 0 is greedy."""
    solver_max_tokens: int = limited(128, at_least=1)
    """Maximum number of tokens per answer of the solver."""
    leak_check: bool = True
    """Whether a guideline that contains the answer is paid like an empty answer."""
    planner_prompt: str = PLANNER_PROMPT
    """Prompt of the planner; ``{question}`` is the problem."""
    solver_prompt: str = SOLVER_PROMPT
    """Prompt of the solver; ``{question}`` is the problem, ``{guideline}`` the planner's text."""
    reward: Any = field(default_factory=SolverRewardConfig)
    """Reward of the solver's answer: a ``RewardConfig``, a mapping of its fields, the name of a reward, a function,
    the address of one (``"package.module:function"``), or a list of these with weights (``weight``)."""
    max_guideline_chars: int = limited(20_000, at_least=1)
    """Maximum number of characters of a guideline; a longer one is invalid."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver_samples > 1 and self.solver_temperature == 0:
            rule = "with solver_temperature=0 would repeat one answer: set a temperature above 0, or solver_samples=1."
            raise OptionError("solver_samples", self.solver_samples, rule)
        check_places("planner_prompt", self.planner_prompt, ["question"])
        check_places("solver_prompt", self.solver_prompt, ["question", "guideline"])


@dataclass
class PlannerSolverState(TextState):
    """State of an episode."""

    answers: tuple[str, ...] = ()
    """Answers of the solver."""


class PlannerSolver(TextEnvironment):
    """The agent ``planner`` writes a guideline for a problem; a frozen solver follows it and ends the episode.

    The observation is the problem, the action is the guideline. A guideline that is not text, is blank, or is too long
    for ``max_guideline_chars`` or for the solver's context is not given to the solver. It is paid like an empty answer,
    0 by default.

    After the guideline, ``info`` holds ``solver_texts``, ``correct`` and ``no_answer`` (shares of the solver's
    answers), ``extracted``, ``leak`` and ``leaked_text``, ``valid_action``, ``empty``, ``overlong``, and the cost of
    the solver: ``solver_calls``, ``generated_tokens``.
    """

    agents = (PLANNER,)
    decisions_per_episode = 1
    config: PlannerSolverConfig

    def __init__(self, config: PlannerSolverConfig | None = None) -> None:
        config = config or PlannerSolverConfig()
        if config.solver == POLICY:
            raise OptionError(
                "solver",
                POLICY,
                f"is the engine of a run's policy (python -m agents.train env.solver={POLICY}). Outside of a run pass "
                "solver=reason_envs.llm.adapter_views.AdapterView(engine, BASE_MODEL), or another engine.",
            )
        super().__init__(config, max_response_chars=config.max_guideline_chars)
        self.prompt = config.planner_prompt
        with mounted("reward"):
            self.reward = self.graded_by = build_reward(config.reward, SolverRewardConfig)
        self.solver = self.own("solver", make_engine, config.solver)

    def start(self, seed: int, task: Task) -> PlannerSolverState:
        """Return the state at the start of an episode; the solver's context must have room for the problem."""
        if not self._fits(task, ""):
            raise ReasonEnvsError(
                f"Task {task.id!r} leaves no room for solver_max_tokens={self.config.solver_max_tokens} in the "
                "solver's context, even without a guideline: shorten the problem or lower solver_max_tokens."
            )
        return PlannerSolverState(seed, task)

    async def check_servers(self) -> None:
        """Check that the solver answers."""
        await self.solver.check_server()

    async def answer(self, guideline: str) -> Reply:
        """Let the solver follow the guideline, and end the episode."""
        state, task, valid = self.state, self.task, bool(guideline.strip())
        generations = await self._solve(task, guideline) if valid else []
        state.answers = tuple(generation.text for generation in generations or ())
        leaked = find_leak(guideline, task.question, task.answer) if valid else None
        rewards = await gather(*(self._judge(task, text, i) for i, text in enumerate(state.answers or [""])))
        paid = [await self._judge(task, "", 0)] if leaked and self.config.leak_check else rewards
        written = state.responses[-1]
        info = {
            "valid_action": valid,
            "empty": not written.strip(),
            "overlong": generations is None or len(written) > self.config.max_guideline_chars,
            "leak": leaked is not None,
            "leaked_text": leaked or "",
            "solver_texts": list(state.answers),
            "solver_calls": len(state.answers),
            "generated_tokens": sum(generation.generated_tokens for generation in generations or ()),
            **_summary(rewards),
        }
        return Reply(fmean(reward.value for reward in paid), info=info)

    def solver_messages(self, task: Task, guideline: str) -> list[Message]:
        """Return the prompt of the solver."""
        return chat(fill(self.config.solver_prompt, question=task.question, guideline=guideline))

    def parse_action(self, text: str) -> str:
        """Return the text without blanks around it."""
        return text.strip()

    def draw(self) -> str:
        """Write the problem, the guideline, the solver's answers and the reward as text."""
        lines, state = [f"Problem: {self.task.question}"], self.state
        if state.responses:
            answers = [f"Solver: {answer}" for answer in state.answers]
            lines += [f"Guideline: {state.responses[-1]}", *answers, f"Reward: {state.reward}"]
        return "\n".join(lines)

    def view(self) -> EpisodeView | None:
        """Return the calls of the solver."""
        if self.state is None or not self.state.answers:
            return None
        asked = {"prompt": self.solver_messages(self.task, self.state.responses[-1])[-1]["content"]}
        return EpisodeView(calls=[CallView("solver", asked, {"response": answer}) for answer in self.state.answers])

    async def _solve(self, task: Task, guideline: str) -> list[Generation] | None:
        """Ask the solver; ``None`` if the guideline leaves no room for its answer."""
        if not self._fits(task, guideline):
            return None
        messages, seed = self.solver_messages(task, guideline), derive_seed(self.state.seed, "solver", 0, 0)
        sampling = Sampling(self.config.solver_max_tokens, self.config.solver_temperature)
        try:
            return await self.solver.generate(GenerationRequest(messages, seed, sampling, self.config.solver_samples))
        except ContextLengthError:  # raised by servers, which count tokens themselves
            return None

    def _fits(self, task: Task, guideline: str) -> bool:
        return fits(self.solver, self.solver_messages(task, guideline), self.config.solver_max_tokens)

    async def _judge(self, task: Task, answer: str, number: int) -> Reward:
        return await self.reward(answer, task, derive_seed(self.state.seed, PLANNER, 0, number))


def _summary(rewards: Sequence[Reward]) -> dict[str, Any]:
    """Join the ``info`` of the rewards: means of numbers, lists of other values."""
    names = dict.fromkeys(name for reward in rewards for name in reward.info)
    columns: dict[str, list[Any]] = {name: [reward.info.get(name) for reward in rewards] for name in names}
    return {
        name: fmean(values) if all(isinstance(value, int | float) for value in values) else values
        for name, values in columns.items()
    }
