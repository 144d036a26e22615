"""The options of WorkflowExecution-v0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.envs.workflow.prompts import prompts_of
from reason_envs.errors import ReasonEnvsError, unknown_name

EMBEDDED = {"name": "transformers", "model": "embedded:workflow"}


@dataclass
class WorkflowConfig:
    """Options of WorkflowExecution-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "workflow_problems"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``. A task's domain
    (``math``, ``qa``, ``code``) is its metadata's ``domain``, or the label of its part of a mixture."""
    split: str = "train"
    """Which part of them."""
    engine: Any = field(default_factory=lambda: dict(EMBEDDED))
    """The executor of the operators: an engine's name, a mapping of its ``name`` and options, or an engine."""
    device: str | None = None
    """Device of the executors, unless their own options name one."""
    executors: Any = field(default_factory=dict)
    """A mapping to executors of single operators (``{"Programmer": ...}``), each as ``engine`` takes them, or the name
    of a model in the file ``aflow_config_path``."""
    aflow_config_path: str | None = None
    """A YAML file of ``models``, which then are the executors instead of ``engine`` (see ``executors.read_models``)."""
    aflow_executor_model: str | None = None
    """Which of its models answers for the operators; ``None``: the only one."""
    aflow_operator_descriptions_path: str | None = None
    """A YAML or JSON file with a ``description`` (and ``interface``) of each operator, for the policy's prompt."""
    prompts: str = "brief"
    """Texts for policy and executor: ``brief`` (which the embedded model was trained on) or ``full`` (for others)."""
    executor_max_tokens: int = 96
    """Most tokens of an executor's answer."""
    executor_temperature: float = 0.7
    """Sampling temperature of the executors; 0 is greedy."""
    executor_top_p: float = 1.0
    """Nucleus of the executors; 1 keeps all tokens."""
    execution_timeout: float = 180.0
    """Seconds of wall-clock time that a workflow may take, waiting for its executors included."""
    max_calls: int = 20
    """Most calls of executors by a workflow."""
    max_executor_tokens: int = 100_000
    """Most tokens that executors generate for a workflow."""
    program_seconds: float = 2.0
    """Computing time of a program between two operators."""
    sandbox: Any = "monty"
    """Where code of operators and answers runs: ``monty``, ``native`` (any Python, Linux), another name, or a
    ``Sandbox``."""
    repair_cap: float = 0.7
    """Most that a repaired program earns."""
    misfit_cap: float = 0.4
    """Most that a program earns which called an operator that does not fit the task's domain."""
    reward: Any = "tiers"
    """``tiers``, ``random`` (the control: a fair coin pays 1 or 0), or a function ``(answer, task)`` or its address
    ``"package.module:function"``, which judges the answer that a workflow returned."""
    max_program_chars: int = 20_000
    """Longest response of the policy in characters; a longer one is an invalid action."""

    def __post_init__(self) -> None:
        prompts_of(self.prompts)
        if not isinstance(self.executors, Mapping):
            raise ReasonEnvsError(
                f"executors={self.executors!r} must map operators to engines; {{}} leaves them all alike."
            )
        for name in self.executors:
            if name not in OPERATORS:
                raise unknown_name("operator in executors", name, OPERATORS)
        for name, least in (
            ("executor_max_tokens", 1),
            ("executor_temperature", 0),
            ("max_calls", 1),
            ("max_executor_tokens", 1),
            ("max_program_chars", 1),
        ):
            if getattr(self, name) < least:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must be at least {least}.")
        for name in ("execution_timeout", "program_seconds"):
            if getattr(self, name) <= 0:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must be above 0.")
        for name in ("repair_cap", "misfit_cap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must lie in [0, 1].")
        if self.aflow_config_path is None and self.aflow_executor_model is not None:
            raise ReasonEnvsError(
                f"aflow_executor_model={self.aflow_executor_model!r} names a model of aflow_config_path, which is not "
                "given. Give that file, or set engine."
            )
        if self.aflow_config_path is not None and self.engine != EMBEDDED:
            raise ReasonEnvsError(
                f"engine={self.engine!r} and aflow_config_path={self.aflow_config_path!r} both say who answers for the "
                "operators: give one of them."
            )
