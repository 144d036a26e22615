"""WorkflowExecution-v0: a policy writes a program over operators, a model answers for them, the answer is graded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reason_envs.core import Action, AgentId, Environment, Message, StepResult, derive_seed
from reason_envs.envs.task_environment import choose_task
from reason_envs.envs.workflow import render_text as text
from reason_envs.envs.workflow.budget import Budget
from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.execution import Outcome, run_workflow
from reason_envs.envs.workflow.executors import build_executors, read_descriptions
from reason_envs.envs.workflow.interpreter import Interpreter
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.envs.workflow.operators import Operators
from reason_envs.envs.workflow.prompts import DOMAINS, prompts_of
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.rewards import make_reward
from reason_envs.rewards.code.grade import CodeGrader, extract_code
from reason_envs.rewards.code.tests import read_tests
from reason_envs.rewards.tiers import NO_ANSWER, TierGrade, capped, code_tier, math_tier, qa_tier
from reason_envs.sandbox import make_sandbox
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import Task, make
from reason_envs.validation import mounted
from reason_envs.views import CallView, EpisodeView, TurnView

WRITER: AgentId = "writer"
MAX_QUESTION_CHARS = 200_000
"""Bound of the observation space; a longer problem is an error."""


@dataclass
class WorkflowState:
    """What an episode has seen."""

    seed: int
    """The episode's seed."""
    outcome: Outcome | None = None
    """What became of the workflow; ``None`` before there is one."""
    grade: TierGrade = NO_ANSWER
    """What its answer is worth before any cap."""
    reward: float | None = None
    """What it earned."""


class WorkflowExecution(Environment):
    """One agent, ``writer``, writes a workflow for a problem; one decision is an episode.

    The observation is the problem, the action a program in AFlow's format (``class Workflow``, ``async __call__``). It
    is checked against the operators' signatures, repaired where that is safe, run in an interpreter, and its answer is
    graded in five tiers (see ``reason_envs.rewards.tiers``); ``repair_cap`` and ``misfit_cap`` bound what a repaired
    program, and one that called an operator of another domain, can earn.

    ``info`` tells ``verdict`` (``ok``; ``no_program``, ``syntax_error``, ``no_workflow``, ``type_error``: not run;
    ``runtime_error``, ``endless``, ``memory``, ``output``, ``crashed``, ``bad_result``: the program failed; ``calls``,
    ``tokens``, ``timeout``, ``prompt_too_long``: it used too much; ``executor_error``), ``error`` in words that a
    policy can read, ``repairs``, ``earned`` (by the tiers, caps included), ``capped``, the operators that were called,
    and what the executors used. All but ``ok`` earn 0.

    Args:
        config: the options; all defaults where it is ``None``.
    """

    agents = (WRITER,)

    def __init__(self, config: WorkflowConfig | None = None) -> None:
        self.config = config = config or WorkflowConfig()
        with mounted("tasks"):
            self.tasks = make(config.tasks, config.split)
        self.prompts = prompts_of(config.prompts)
        if config.aflow_operator_descriptions_path is not None:
            self.prompts = self.prompts.describing(read_descriptions(Path(config.aflow_operator_descriptions_path)))
        with mounted("sandbox"):
            sandbox = self.own(make_sandbox(config.sandbox), config.sandbox)
        self.executors = build_executors(config)
        given = {id(part): part for part in (config.engine, *config.executors.values())}
        for engine in {id(executor.engine): executor.engine for executor in self.executors.values()}.values():
            self.own(engine, given.get(id(engine)))
        self.operators = Operators(self.prompts, self.executors, sandbox, seconds=5.0)
        self.interpreter = Interpreter(config.program_seconds)
        self.grader = CodeGrader(sandbox)
        own = config.reward in ("tiers", "random") if isinstance(config.reward, str) else False
        with mounted("reward"):
            self.reward = None if own else make_reward(config.reward)
        self.task: Task | None = None
        self._observation_space = UnicodeText(MAX_QUESTION_CHARS)
        self._action_space = UnicodeText(config.max_program_chars)

    def observation_space(self, agent: AgentId) -> UnicodeText:
        """Return the space of problem texts."""
        return self._observation_space

    def action_space(self, agent: AgentId) -> UnicodeText:
        """Return the space of responses."""
        return self._action_space

    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Pose a problem: ``options["task"]`` (a ``Task`` or mapping), else the one that belongs to the seed."""
        state = WorkflowState(self.episode_seed(seed))
        task = choose_task(self.tasks, state.seed, options)
        if len(task.question) > MAX_QUESTION_CHARS:
            raise ReasonEnvsError(
                f"Task {task.id!r} has {len(task.question)} characters; at most {MAX_QUESTION_CHARS} are allowed: "
                "shorten it or leave it out of the task set."
            )
        domain = domain_of(task)
        self.state, self.task = state, task
        return StepResult({WRITER: task.question}, info={"task_id": task.id, "domain": domain})

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Run the workflow, grade its answer and end the episode."""
        if self.task is None or self.state.outcome is not None:
            raise ReasonEnvsError("No problem is waiting for a workflow: call reset first.")
        task, state, action = self.task, self.state, actions[WRITER]
        valid = self._action_space.contains(action)
        domain = domain_of(task)
        budget = Budget(self.config, state.seed)
        response = action if valid else ""
        outcome = await run_workflow(response, task, domain, self.interpreter, self.operators, budget)
        state.outcome = outcome
        if outcome.verdict == "ok":
            state.grade = await self._grade(outcome, task, domain)
        caps = self._caps(outcome, domain)
        tier, cap = capped(state.grade.tier, caps)
        state.reward = await self._pay(tier, outcome, task)
        info = {
            "task_id": task.id,
            "domain": domain,
            "valid_action": valid,
            **self._info(outcome),
            "earned": tier,
            "capped": cap or "",
        }
        return StepResult({}, {WRITER: state.reward}, {WRITER: True}, {WRITER: False}, info=info)

    def render_messages(self, observation: str) -> list[Message]:
        """Ask for a workflow: the operators, what the domain wants, the problem."""
        domain = domain_of(self.task) if self.task is not None else "math"
        return [{"role": "user", "content": self.prompts.workflow(domain, observation)}]

    def parse_action(self, text: str) -> str:
        """Take the text as it is."""
        return text

    def render(self) -> str | None:
        """Return the problem, the program, its operator calls and its reward as text (``render_mode="ansi"``)."""
        if self.render_mode is None or self.task is None:
            return None
        return text.draw(self.task, self.state.outcome, self.state.reward)

    def view(self) -> EpisodeView | None:
        """Return what came of the workflow, its operator calls, and the program that was run where it was repaired."""
        if self.state is None or self.state.outcome is None:
            return None
        outcome = self.state.outcome
        repairs = outcome.program.repairs
        ended = outcome.answer if outcome.verdict == "ok" else f"{outcome.verdict}: {outcome.error}"
        turn = TurnView("\n".join([*(f"repaired: {repair}" for repair in repairs), ended]))
        calls = [CallView(call.operator, call.fields, call.outputs) for call in outcome.calls]
        return EpisodeView(turns=[turn], program=outcome.program.source if repairs else "", calls=calls)

    # --- what an answer earns

    async def _grade(self, outcome: Outcome, task: Task, domain: str) -> TierGrade:
        if domain == "math":
            return await math_tier(outcome.answer, task.answer, outcome.grounded)
        if domain == "qa":
            return qa_tier(outcome.answer, task.metadata.get("answers") or [task.answer], outcome.grounded)
        code = extract_code(outcome.answer)
        try:
            grade = await self.grader.grade(code, read_tests(task.metadata["tests"]))
        except ReasonEnvsError as error:
            advice = "Tests that monty cannot run want env.sandbox=native."
            raise ReasonEnvsError(f"Task {task.id!r} cannot be graded: {error} {advice}") from error
        return code_tier(code, grade.share, outcome.grounded)

    def _caps(self, outcome: Outcome, domain: str) -> dict[str, float]:
        caps = {}
        if outcome.program.repairs:
            caps["repaired"] = self.config.repair_cap
        if any(domain not in OPERATORS[call.operator].domains for call in outcome.calls):
            caps["misfit"] = self.config.misfit_cap
        return caps

    async def _pay(self, tier: float, outcome: Outcome, task: Task) -> float:
        if self.reward is not None:
            return (await self.reward(outcome.answer, task, derive_seed(self.state.seed, WRITER, 0, 0))).value
        if self.config.reward == "random":
            return float(derive_seed(self.state.seed, WRITER, 0, 0, "reward") % 2)
        return tier

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        grade = self.state.grade
        return {
            "verdict": outcome.verdict,
            "error": outcome.error,
            "repairs": list(outcome.program.repairs),
            "operators": [call.operator for call in outcome.calls],
            "answer": outcome.answer,
            "extracted": grade.extracted or "",
            "reason": grade.reason if outcome.verdict == "ok" else outcome.verdict,
            "tier": grade.tier,
            "score": grade.score,
            "correct": grade.correct,
            "no_answer": outcome.verdict != "ok" or grade.reason == "no_answer",
            "executor_calls": outcome.executor_calls,
            "generated_tokens": outcome.generated_tokens,
            "prompt_tokens": outcome.prompt_tokens,
            "cost": outcome.cost,
        }


def domain_of(task: Task) -> str:
    """Return a task's domain: its metadata's ``domain``, else its part of a mixture, else ``math``.

    Raises:
        ReasonEnvsError: it names a domain that does not exist, or is programming without tests.
    """
    domain = task.metadata.get("domain")
    if domain is None:
        source = task.metadata.get("source")
        domain = source if source in DOMAINS else "math"
    if domain not in DOMAINS:
        raise unknown_name(f"domain of task {task.id!r}", str(domain), DOMAINS)
    if domain == "code" and "tests" not in task.metadata:
        raise ReasonEnvsError(f"Task {task.id!r} is programming and has no tests: give metadata['tests'].")
    return domain
