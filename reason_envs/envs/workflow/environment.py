"""WorkflowExecution-v0: a policy writes a program over operators, a model runs them, the answer is graded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from reason_envs.core import AgentId, Message, derive_seed
from reason_envs.envs.prompt_templates import chat
from reason_envs.envs.task_environment import Reply, TextEnvironment, TextState
from reason_envs.envs.workflow.budget import Budget
from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.execution import Outcome, run_workflow
from reason_envs.envs.workflow.executors import build_executors, read_descriptions
from reason_envs.envs.workflow.interpreter import Interpreter
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.envs.workflow.operators import Operators, domain_of
from reason_envs.envs.workflow.prompts import prompts
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import Reward, make_reward
from reason_envs.rewards.code.grade import CodeGrader, extract_code
from reason_envs.rewards.code.tests import read_tests
from reason_envs.rewards.tiers import NO_ANSWER, TierGrade, capped, code_tier, math_tier, qa_tier
from reason_envs.sandbox import make_sandbox
from reason_envs.sandbox.values import shown
from reason_envs.tasks import Task
from reason_envs.validation import mounted
from reason_envs.views import EpisodeView, TurnView

WRITER: AgentId = "writer"
WIDTH = 160
"""Maximum number of characters of a value in a rendered episode."""


@dataclass
class WorkflowState(TextState):
    """State of an episode."""

    outcome: Outcome | None = None
    """Result of the workflow; ``None`` before the agent has written a workflow."""
    grade: TierGrade = NO_ANSWER
    """Grade of the workflow's answer before the caps."""


class WorkflowExecution(TextEnvironment):
    """The agent ``writer`` writes a workflow for a problem; running and grading it ends the episode.

    The observation is the problem, the action is a program in AFlow's format (``class Workflow``, ``async __call__``).
    It is checked against the signatures of the operators, repaired if that is safe, and run in an interpreter. Its
    answer is graded in five tiers (see ``reason_envs.rewards.tiers``). ``repair_cap`` limits the reward of a repaired
    program, ``misfit_cap`` that of a program that called an operator of another domain.

    After the program, ``info`` holds ``verdict``, ``error`` in words that a policy can read, ``repairs``, ``earned``
    (by the tiers, caps included), ``capped``, the ``operators`` that were called, and the cost of the executors. The
    verdict is one of

    * ``ok``;
    * not run: ``no_program``, ``syntax_error``, ``no_workflow``, ``type_error``;
    * failed: ``runtime_error``, ``endless``, ``memory``, ``output``, ``crashed``, ``bad_result``;
    * over budget: ``calls``, ``tokens``, ``timeout``, ``prompt_too_long``.

    Every verdict except ``ok`` earns 0. A failure of an executor is an `EngineError`.

    Args:
        config: options; ``None`` takes all defaults.
    """

    agents = (WRITER,)
    max_question_chars: ClassVar[int] = 200_000
    config: WorkflowConfig

    def __init__(self, config: WorkflowConfig | None = None) -> None:
        config = config or WorkflowConfig()
        super().__init__(config)
        self.prompts = prompts(config.prompts)
        if config.aflow_operator_descriptions_path is not None:
            described = read_descriptions(Path(config.aflow_operator_descriptions_path))
            self.prompts = replace(self.prompts, operators={**self.prompts.operators, **described})
        sandbox = self.own("sandbox", make_sandbox, config.sandbox)
        self.executors = build_executors(config, self.own)
        self.operators = Operators(self.prompts, self.executors, sandbox, seconds=5.0)
        self.interpreter = Interpreter(config.program_seconds)
        self.grader = CodeGrader(sandbox)
        built_in = isinstance(config.reward, str) and config.reward in ("tiers", "random")
        with mounted("reward"):
            self.reward = None if built_in else make_reward(config.reward)

    def start(self, seed: int, task: Task) -> WorkflowState:
        """Return the state at the start of an episode; a task of an unknown domain is an error."""
        domain_of(task)
        return WorkflowState(seed, task)

    def info(self) -> dict[str, Any]:
        """Return the entries of every ``info``."""
        return {**super().info(), "domain": domain_of(self.task)}

    async def check_servers(self) -> None:
        """Check that every executor answers."""
        for engine in {id(executor.engine): executor.engine for executor in self.executors.values()}.values():
            await engine.check_server()

    async def answer(self, response: str) -> Reply:
        """Run the workflow, grade its answer and end the episode."""
        task, state, domain = self.task, self.state, domain_of(self.task)
        budget = Budget(self.config, state.seed)
        outcome = await run_workflow(response, task, self.interpreter, self.operators, budget)
        state.outcome = outcome
        if outcome.verdict == "ok":
            state.grade = await self._grade(outcome, task, domain)
        caps = {"repaired": self.config.repair_cap} if outcome.program.repairs else {}
        if any(domain not in OPERATORS[call.name].domains for call in outcome.calls):
            caps["misfit"] = self.config.misfit_cap
        tier, cap = capped(state.grade.tier, caps)
        reward = await self._pay(tier, outcome, task)
        info = {**reward.info, **self._info(outcome), "earned": tier, "capped": cap or ""}
        return Reply(reward.value, info=info)

    def render_messages(self, observation: str) -> list[Message]:
        """Return the prompt: the operators, the rule of the task's domain, and the problem."""
        domain = "math" if self.state is None else domain_of(self.task)
        return chat(self.prompts.workflow(domain, observation))

    def draw(self) -> str:
        """Write the problem, the program, its operator calls and its reward as text."""
        lines, outcome = [f"Problem: {self.task.question}"], self.state.outcome
        if outcome is None:
            return lines[0]
        lines.append(outcome.program.source or "(no program)")
        lines += [f"repaired: {repair}" for repair in outcome.program.repairs]
        for number, call in enumerate(outcome.calls, 1):
            lines.append(f"{number}. {call.name}({_values(call.inputs)})")
            lines.append(f"   -> {_values(call.outputs)}")
        is_ok = outcome.verdict == "ok"
        lines.append(f"Answer: {_short(outcome.answer)}" if is_ok else f"{outcome.verdict}: {outcome.error}")
        used = outcome.used
        usage = f"{used.executor_calls} executor calls, {used.generated_tokens} tokens, cost {used.cost:.6f}"
        return "\n".join([*lines, f"Reward: {self.state.reward} ({usage})"])

    def view(self) -> EpisodeView | None:
        """Return the result of the workflow, its operator calls, and the program if it was repaired."""
        if self.state is None or self.state.outcome is None:
            return None
        outcome = self.state.outcome
        repairs = outcome.program.repairs
        ended = outcome.answer if outcome.verdict == "ok" else f"{outcome.verdict}: {outcome.error}"
        turn = TurnView("\n".join([*(f"repaired: {repair}" for repair in repairs), ended]))
        return EpisodeView(turns=[turn], program=outcome.program.source if repairs else "", calls=outcome.calls)

    # --- grading

    async def _grade(self, outcome: Outcome, task: Task, domain: str) -> TierGrade:
        if domain == "math":
            return await math_tier(outcome.answer, task.answer, outcome.grounded)
        if domain == "qa":
            return qa_tier(outcome.answer, task.metadata.get("answers") or [task.answer], outcome.grounded)
        code = extract_code(outcome.answer)
        try:
            grade = await self.grader.grade(code, read_tests(task.metadata["tests"]))
        except ReasonEnvsError as error:
            advice = "Tests that monty cannot run need env.sandbox=native."
            raise ReasonEnvsError(f"Task {task.id!r} cannot be graded: {error} {advice}") from error
        return code_tier(code, grade.share, outcome.grounded)

    async def _pay(self, tier: float, outcome: Outcome, task: Task) -> Reward:
        if self.reward is not None:
            return await self.reward(outcome.answer, task, derive_seed(self.state.seed, WRITER, 0, 0))
        if self.config.reward == "random":
            return Reward(float(derive_seed(self.state.seed, WRITER, 0, 0, "reward") % 2))
        return Reward(tier)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        grade = self.state.grade
        return {
            "verdict": outcome.verdict,
            "error": outcome.error,
            "repairs": list(outcome.program.repairs),
            "operators": [call.name for call in outcome.calls],
            "answer": outcome.answer,
            "extracted": grade.extracted or "",
            "reason": grade.reason if outcome.verdict == "ok" else outcome.verdict,
            "tier": grade.tier,
            "score": grade.score,
            "correct": grade.correct,
            "no_answer": outcome.verdict != "ok" or grade.reason == "no_answer",
            **vars(outcome.used),
        }


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    text = shown(value, WIDTH + 1, repr)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
