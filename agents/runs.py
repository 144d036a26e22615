"""The parts of a run, built from its configuration, and run folders on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agents import checkpoint
from agents.config import TrainConfig, options, typed
from agents.policies.language import LanguagePolicy
from agents.registry import POLICIES
from reason_envs.batching import gather
from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.engine import TrainableEngine
from reason_envs.registration import make_environment
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks.base import Task, TaskSet

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
ENGINE_FOLLOWS_POLICY = ("model", "device", "attention")
"""Engine options that are the policy's unless given: learner and sampler must hold the same model."""


@dataclass
class Run:
    """Everything that acts in a run, before any learning."""

    config: TrainConfig
    environment: Environment
    policy: LanguagePolicy
    engine: TrainableEngine
    train_tasks: TaskSet
    test_tasks: TaskSet | None
    """Held-out problems; ``None`` where nothing evaluates."""


def build(config: TrainConfig) -> Run:
    """Build environment, policy, engine and tasks; every error comes before any compute is spent."""
    env_options = options(config.env)
    train_tasks = make_tasks(env_options["tasks"], env_options["split"])
    test_tasks = _held_out(config) if config.eval_every else None
    environment = make_environment(config.env.name, **{**env_options, "tasks": train_tasks})
    engine = make_engine(config.engine.name, **_engine_options(config))
    if not isinstance(engine, TrainableEngine):
        raise ReasonEnvsError(
            f"engine={config.engine.name} cannot take new weights; use engine=transformers or engine=vllm."
        )
    policy_options = {"config": POLICIES[config.policy.name].config_class()(**options(config.policy))}
    policy = POLICIES[config.policy.name].load()(**policy_options, seed=config.seed)
    policy.engine = engine
    if config.init_from:
        policy.load_state_tensors(checkpoint.load(Path(config.init_from))[0]["policy"])
    return Run(config, environment, policy, engine, train_tasks, test_tasks)


def _held_out(config: TrainConfig) -> TaskSet:
    if config.eval_set is None and config.env.split == "test":
        raise ReasonEnvsError(
            "env.split=test trains on the problems that evaluation would call held out: set eval_set to others, or "
            "eval_every=0."
        )
    return make_tasks(config.eval_set or config.env.tasks, "test")


def _engine_options(config: TrainConfig) -> dict[str, Any]:
    """Resolve what follows the policy, in the configuration itself, so that ``config.yaml`` tells what ran."""
    for entry in fields(config.engine):
        if entry.name in ENGINE_FOLLOWS_POLICY and getattr(config.engine, entry.name) == entry.default:
            setattr(config.engine, entry.name, getattr(config.policy, entry.name))
    return options(config.engine)


def load_run(run: str | None, checkpoint_folder: str | None = None, *, untrained: bool = False) -> Run:
    """Build a run's parts with its trained weights, ready to act.

    Args:
        run: run folder; its latest checkpoint is loaded.
        checkpoint_folder: ``<run>/checkpoints/step_N`` instead.
        untrained: keep the weights that the run started from.
    """
    if (run is None) == (checkpoint_folder is None):
        raise ReasonEnvsError("Give either run=<run folder> or checkpoint=<run folder>/checkpoints/step_N.")
    folder = Path(run) if run else Path(str(checkpoint_folder)).resolve().parent.parent
    config = read_config(folder)
    config.eval_every = config.eval_every or 1
    if not untrained:
        config.init_from = checkpoint_folder or str(checkpoint.latest(folder / CHECKPOINTS))
    loaded = build(config)
    loaded.engine.load_weights(loaded.policy.export_weights(), version=0)
    return loaded


def read_config(folder: Path) -> TrainConfig:
    """Read the configuration that a run folder was written with."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ReasonEnvsError(f"{folder} is no run folder: it has no {CONFIG_FILE}.")
    raw: Any = OmegaConf.to_container(OmegaConf.load(path))
    return typed(raw)


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write the whole configuration, defaults included."""
    OmegaConf.save(OmegaConf.structured(config), folder / CONFIG_FILE)


async def check_prompts(run: Run, tasks: TaskSet) -> TaskSet:
    """Apply ``policy.max_prompt_tokens``: an error, or the task set without its overlong prompts.

    Returns:
        The tasks to use; a filtered set says in ``name`` how many were left out.
    """
    positions = getattr(run.policy.model.config, "max_position_embeddings", math.inf)
    problems = list(tasks)
    lengths = await gather(*(_prompt_length(run, task) for task in problems))
    limit = min(run.policy.config.max_prompt_tokens, positions - run.policy.max_tokens)
    overlong = [i for i, length in enumerate(lengths) if length > limit]
    if not overlong:
        return tasks
    if run.policy.config.overlong_prompts == "error":
        worst = max(overlong, key=lambda i: lengths[i])
        raise ReasonEnvsError(
            f"{len(overlong)} of {len(problems)} prompts are longer than {limit} tokens (longest: task "
            f"{problems[worst].id!r}, {lengths[worst]} tokens): the lower of policy.max_prompt_tokens="
            f"{run.policy.config.max_prompt_tokens} and the model's {positions} positions less policy.max_tokens. "
            "Raise the limit, lower policy.max_tokens, or set policy.overlong_prompts=filter."
        )
    if len(overlong) == len(problems):
        raise ReasonEnvsError(
            f"Every prompt is longer than {limit} tokens (policy.max_prompt_tokens, or the model's positions less "
            "policy.max_tokens): nothing is left."
        )
    skip = set(overlong)
    return Selected(tasks, [i for i in range(len(problems)) if i not in skip])


async def _prompt_length(run: Run, task: Task) -> int:
    environment = run.environment.fork()
    result = await environment.reset(seed=0, options={"task": task})
    return max(run.policy.prompt_length(run.policy.observe(environment, o)) for o in result.observations.values())


class Selected(TaskSet):
    """Some of the problems of another set."""

    def __init__(self, tasks: TaskSet, indices: list[int]) -> None:
        self.name = f"{tasks.name} ({len(tasks) - len(indices)} overlong left out)"
        self.split = tasks.split
        self._tasks = tasks
        self._indices = indices

    def __len__(self) -> int:
        """Number of problems kept."""
        return len(self._indices)

    def __getitem__(self, index: int) -> Task:
        """Return the kept problem ``index``."""
        return self._tasks[self._indices[index]]
