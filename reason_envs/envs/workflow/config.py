"""Options of WorkflowExecution-v0."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reason_envs.envs.task_environment import TaskConfig
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.envs.workflow.prompts import STYLES
from reason_envs.errors import OptionError
from reason_envs.validation import check_choice, limited

EMBEDDED = {"name": "transformers", "model": "embedded:workflow"}


@dataclass
class WorkflowConfig(TaskConfig):
    """Options of WorkflowExecution-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "workflow_problems"})
    """Problems: the name of a task family, a mapping of its ``name`` and options, or a ``TaskSet``. The domain of a
    task (``math``, ``qa``, ``code``) is its ``metadata["domain"]``, or the label of its part of a mixture."""
    engine: Any = field(default_factory=lambda: dict(EMBEDDED))
    """Executor of the operators: the name of an engine, a mapping of its ``name`` and options, or an engine."""
    device: str | None = None
    """Device of the executors if their own options name none; ``None``: chosen by each."""
    executors: Any = field(default_factory=dict)
    """Executors of single operators: a mapping such as ``{"Programmer": ...}``, with values as in ``engine``, or names
    of models in the file ``aflow_config_path``."""
    aflow_config_path: str | None = None
    """YAML file of models in place of ``engine`` (format: see ``read_models``); ``None``: ``engine`` is used."""
    aflow_executor_model: str | None = None
    """Name of the model in ``aflow_config_path`` that runs the operators; ``None``: the only one."""
    aflow_operator_descriptions_path: str | None = None
    """YAML or JSON file of operator descriptions for the policy's prompt; ``None``: the built-in ones."""
    prompts: str = limited("brief", one_of=STYLES)
    """Prompts of policy and executor: ``brief`` (for the embedded model, which was trained on them) or ``full``."""
    executor_max_tokens: int | None = limited(None, at_least=1)
    """Maximum number of tokens per answer of an executor; ``None``: 96 for the embedded executor, 2,048 for others."""
    executor_temperature: float = limited(0.7, at_least=0)
    """Sampling temperature of the executors; 0 is greedy."""
    executor_top_p: float = 1.0
    """Nucleus sampling of the executors: probability mass of the tokens that are kept; 1 keeps all tokens."""
    execution_timeout: float = limited(180.0, above=0)
    """Time limit of a workflow in seconds, the answers of its executors included."""
    max_calls: int = limited(20, at_least=1)
    """Maximum number of calls of executors per workflow."""
    max_executor_tokens: int = limited(100_000, at_least=1)
    """Maximum number of tokens that executors generate per workflow."""
    program_seconds: float = limited(2.0, above=0)
    """Time limit of the program between two operators, in seconds."""
    sandbox: Any = "monty"
    """Sandbox that runs the code of operators and answers: ``monty``, ``native`` (any Python, on Linux), a mapping of a
    ``name`` and options, or a ``Sandbox``."""
    repair_cap: float = limited(0.7, within=(0, 1))
    """Maximum reward of a program that had to be repaired before it ran."""
    misfit_cap: float = limited(0.4, within=(0, 1))
    """Maximum reward of a program that calls an operator of another domain than the problem's."""
    reward: Any = "tiers"
    """Reward of the answer: ``tiers``, ``random`` (a control that pays 0 or 1 at random), a function of answer and
    task, the address of one (``"package.module:function"``), a mapping of its ``name`` and options, or a list of these
    with weights (``weight``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.executors, Mapping):
            raise OptionError(
                "executors", self.executors, "must map operators to engines; {} uses one engine for all operators."
            )
        for name in self.executors:
            check_choice("executors", name, OPERATORS)
        if self.aflow_config_path is None and self.aflow_executor_model is not None:
            rule = "names a model of aflow_config_path, which is not set. Set that file, or set engine instead."
            raise OptionError("aflow_executor_model", self.aflow_executor_model, rule)
        if self.aflow_config_path is not None and self.engine != EMBEDDED:
            rule = f"and aflow_config_path={self.aflow_config_path!r} both set the executors: set one of them."
            raise OptionError("engine", self.engine, rule)
