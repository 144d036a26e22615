"""The parts of a run, built from its configuration, and run folders on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from agents import checkpoint
from agents.config import TrainConfig, changed, options, typed
from agents.phase_one import CONFIG_FILE, reward_model_options
from agents.policies.base import TrainablePolicy
from agents.policies.language import LanguagePolicy
from agents.policies.roles import RolePolicy, language_parts
from agents.registry import POLICIES
from agents.samplers import samplers
from agents.sync import WeightSync
from reason_envs.batching import gather
from reason_envs.core import AgentId, Environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.base_model import BaseModel
from reason_envs.llm.engine import Engine, TrainableEngine
from reason_envs.registration import make_environment
from reason_envs.rewards.steps import StepRewardModel, make_reward_model
from reason_envs.tasks import make as make_tasks
from reason_envs.tasks.base import Task, TaskSet

CHECKPOINTS = "checkpoints"
FROZEN = ("solver",)
"""Options of environments that are frozen models of their own."""
SHARED = "policy"
"""Such an option's value for the model under the policy's adapter, in the policy's own engine."""


@dataclass
class Run:
    """Everything that acts in a run, before any learning."""

    config: TrainConfig
    environment: Environment
    policy: TrainablePolicy
    engines: tuple[Engine, ...]
    """What ``engine=`` names: a language policy's sampler, or each role's; else the environment's generator, if any."""
    reward_model: StepRewardModel | None
    """The environment's step reward model, where it has one."""
    frozen: list[Engine]
    """Engines of the environment's own options, such as ``env.solver``, that the run has built."""
    train_tasks: TaskSet
    test_tasks: TaskSet | None
    """Held-out problems; ``None`` where nothing evaluates."""

    def close(self) -> None:
        """Free the models."""
        self.environment.close()
        for part in (*self.engines, self.reward_model, *self.frozen):
            if part is not None:
                part.close()


def build(config: TrainConfig, folder: Path) -> Run:
    """Build environment, policy, engine and tasks; every error comes before any compute is spent.

    Args:
        config: the run's; what follows from other options is written into it.
        folder: where a step reward model that the run trains lies.
    """
    env_options = options(config.env)
    for name in ("tasks", "split"):
        if name not in env_options:
            raise ReasonEnvsError(
                f"env={config.env.name} has no option {name!r}, and a learner needs problems: give its configuration "
                "the fields tasks and split (python -m reason_envs.check says what else is missing)."
            )
    train_tasks = make_tasks(env_options["tasks"], env_options["split"])
    test_tasks = _held_out(config) if config.eval_every else None
    policy_class = POLICIES[config.policy.name].load()
    writes_text = issubclass(policy_class, LanguagePolicy)
    place(config, writes_text=writes_text)
    _check_shared(config)
    parts = _environment_parts(config, folder, writes_text=writes_text)
    sampling = samplers(config, [""]) if _shares_engine(config) else {}
    engines: tuple[Engine, ...] = (parts["engine"],) if "engine" in parts and not writes_text else ()
    frozen = _frozen_models(config, sampling.get(""))
    environment = make_environment(config.env.name, **{**env_options, **parts, **frozen, "tasks": train_tasks})
    if "ansi" in environment.metadata["render_modes"]:
        environment.render_mode = "ansi"
    policy_config = POLICIES[config.policy.name].config_class()(**options(config.policy))
    if writes_text:
        names = [""] if config.policy.sharing == "shared" else list(environment.agents)
        sampling = sampling or samplers(config, names)
        policy = _language_policy(policy_class, policy_config, config, names)
        for name, part in language_parts(policy).items():
            part.engine = sampling[name]
        engines = tuple(sampling.values())
    else:
        policy = policy_class(policy_config, seed=config.seed, environment=environment)
    if config.init_from:
        policy.load_state_tensors(checkpoint.load(Path(config.init_from))[0]["policy"])
    reward_model, built = parts.get("reward_model"), list(frozen.values())
    return Run(config, environment, policy, engines, reward_model, built, train_tasks, test_tasks)


def _language_policy(
    policy_class: type[LanguagePolicy], policy_config: Any, config: TrainConfig, roles: Sequence[AgentId]
) -> LanguagePolicy | RolePolicy:
    """Build one policy for all roles, or a policy of each."""
    if policy_config.sharing == "shared":
        return policy_class(policy_config, seed=config.seed)
    return RolePolicy(policy_config, roles, seed=config.seed, devices=config.placement.roles or {})


def weight_syncs(policy: Any) -> dict[AgentId, WeightSync]:
    """Return what sends the weights of each part of a policy to its engine; nothing where the policy samples itself."""
    parts = language_parts(policy)
    return {name: WeightSync(part, cast(TrainableEngine, part.engine)) for name, part in parts.items()}


def place(config: TrainConfig, *, writes_text: bool) -> None:
    """Write ``placement`` into the options of the parts.

    Args:
        config: the run's.
        writes_text: whether the policy samples with the engine, which then is no part of the environment.

    Raises:
        ReasonEnvsError: a part has no device to choose, or two are given.
    """
    parts = {"generator": "engine", "reward_model": "reward_model", "policy": "policy"}
    for name, group in parts.items():
        device, part = getattr(config.placement, name), getattr(config, group)
        if device is None:
            continue
        if name == "generator" and writes_text:
            raise ReasonEnvsError(
                f"placement.generator={device} with policy={config.policy.name}: engine= is the policy's own sampler, "
                "placed by engine.device; the environment's generator is env.engine={name: ..., device: ...}."
            )
        if not hasattr(part, "device"):
            raise ReasonEnvsError(f"placement.{name}={device}: {group}={part.name} has no device to choose.")
        if changed(part, "device") and part.device != device:
            raise ReasonEnvsError(f"placement.{name}={device} and {group}.device={part.device}: give one of them.")
        part.device = device


def _environment_parts(config: TrainConfig, folder: Path, *, writes_text: bool) -> dict[str, Any]:
    """Build the models that the environment has options for and that the run's own groups describe."""
    there = [name for name in ("engine", "reward_model") if hasattr(config.env, name)]
    ours = [name for name in there if name == "reward_model" or not writes_text]
    for name in ours:
        if changed(config.env, name):
            raise ReasonEnvsError(f"env.{name}={getattr(config.env, name)!r}: in a run it is configured by {name}=.")
    if ours and getattr(config.env, "device", None) is not None and not writes_text:
        raise ReasonEnvsError(
            f"env.device={config.env.device}: in a run devices are chosen by placement.generator and "
            "placement.reward_model."
        )
    generator = config.env.engine if "engine" in there and writes_text else _spec(config.engine)
    parts: dict[str, Any] = {}
    if "reward_model" in ours:
        found = reward_model_options(config, generator, folder)
        parts["reward_model"] = make_reward_model(config.reward_model.name, **found)
    if "engine" in ours:
        parts["engine"] = make_engine(generator)
    return parts


def _check_shared(config: TrainConfig) -> None:
    """Refuse, before a model is loaded, to read a base model that training changes."""
    for name in FROZEN:
        if getattr(config.env, name, None) != SHARED:
            continue
        policy = config.policy
        if getattr(policy, "sharing", "shared") != "shared":
            raise ReasonEnvsError(
                f"env.{name}={SHARED} with policy.sharing={policy.sharing}: the frozen model lies under one policy's "
                "adapter; use policy.sharing=shared."
            )
        if not (getattr(policy, "lora_rank", 0) or getattr(policy, "adapter", None)):
            raise ReasonEnvsError(
                f"env.{name}={SHARED} is the model under the policy's adapter, and this policy has none: set "
                f"policy.lora_rank=16, or give the frozen model an engine of its own, env.{name}={{name: ..., model: "
                "...}."
            )
        if not getattr(config.engine, "max_lora_rank", 0):
            raise ReasonEnvsError(
                f"env.{name}={SHARED} needs an engine that holds the adapter apart from the model, and engine="
                f"{config.engine.name} gets merged weights: set engine=vllm engine.max_lora_rank=<policy.lora_rank>, "
                f"or give the frozen model an engine of its own, env.{name}={{name: ..., model: ...}}."
            )


def _shares_engine(config: TrainConfig) -> bool:
    """Whether the environment asks the model under the policy's adapter, so that the policy's engine comes first."""
    return any(getattr(config.env, name, None) == SHARED for name in FROZEN)


def _frozen_models(config: TrainConfig, engine: Engine | None) -> dict[str, Engine]:
    """Build the frozen models that the environment has options for; engines that came as objects stay with it."""
    found = {name: getattr(config.env, name) for name in FROZEN if hasattr(config.env, name)}
    return {
        name: BaseModel(engine) if spec == SHARED and engine is not None else make_engine(spec)
        for name, spec in found.items()
        if isinstance(spec, str | Mapping)
    }


def _spec(part: Any) -> dict[str, Any]:
    return {"name": part.name, **options(part)}


def _held_out(config: TrainConfig) -> TaskSet:
    if config.eval_set is None and config.env.split == "test":
        raise ReasonEnvsError(
            "env.split=test trains on the problems that evaluation would call held out: set eval_set to others, or "
            "eval_every=0."
        )
    return make_tasks(config.eval_set or config.env.tasks, "test")


def load_run(
    run: str | None,
    checkpoint_folder: str | None = None,
    *,
    untrained: bool = False,
    overrides: Sequence[str] = (),
) -> Run:
    """Build a run's parts with its trained weights, ready to act.

    Args:
        run: run folder; its latest checkpoint is loaded.
        checkpoint_folder: ``<run>/checkpoints/step_N`` instead.
        untrained: keep the weights that the run started from.
        overrides: ``key=value`` changes of the run's configuration, such as ``reward_model.path=FOLDER``.
    """
    if (run is None) == (checkpoint_folder is None):
        raise ReasonEnvsError("Give either run=<run folder> or checkpoint=<run folder>/checkpoints/step_N.")
    folder = Path(run) if run else Path(str(checkpoint_folder)).resolve().parent.parent
    config = read_config(folder, overrides)
    config.eval_every = config.eval_every or 1
    if not untrained:
        config.init_from = checkpoint_folder or str(checkpoint.latest(folder / CHECKPOINTS))
    loaded = build(config, folder)
    for sync in weight_syncs(loaded.policy).values():
        sync.send(version=0)
    return loaded


def read_config(folder: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration that a run folder was written with, and change it by ``key=value`` overrides."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ReasonEnvsError(f"{folder} is no run folder: it has no {CONFIG_FILE}.")
    changes = OmegaConf.from_dotlist(list(overrides))
    raw: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(path), changes))
    return typed(raw)


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write the whole configuration, defaults included."""
    OmegaConf.save(OmegaConf.structured(config), folder / CONFIG_FILE)


async def check_prompts(run: Run, tasks: TaskSet) -> TaskSet:
    """Apply ``policy.max_prompt_tokens``: an error, or the task set without its overlong prompts.

    Returns:
        The tasks to use; a filtered set says in ``name`` how many were left out. A policy that reads no prompts takes
        all of them.
    """
    policy = next(iter(language_parts(run.policy).values()), None)  # roles have the same model and limits
    if policy is None:
        return tasks
    positions = getattr(policy.model.config, "max_position_embeddings", math.inf)
    problems = list(tasks)
    lengths = await gather(*(_prompt_length(run.environment.fork(), policy, task) for task in problems))
    limit = min(policy.config.max_prompt_tokens, positions - policy.max_tokens)
    overlong = [i for i, length in enumerate(lengths) if length > limit]
    if not overlong:
        return tasks
    if policy.config.overlong_prompts == "error":
        worst = max(overlong, key=lambda i: lengths[i])
        raise ReasonEnvsError(
            f"{len(overlong)} of {len(problems)} prompts are longer than {limit} tokens (longest: task "
            f"{problems[worst].id!r}, {lengths[worst]} tokens): the lower of policy.max_prompt_tokens="
            f"{policy.config.max_prompt_tokens} and the model's {positions} positions less policy.max_tokens. "
            "Raise the limit, lower policy.max_tokens, or set policy.overlong_prompts=filter."
        )
    if len(overlong) == len(problems):
        raise ReasonEnvsError(
            f"Every prompt is longer than {limit} tokens (policy.max_prompt_tokens, or the model's positions less "
            "policy.max_tokens): nothing is left."
        )
    skip = set(overlong)
    return Selected(tasks, [i for i in range(len(problems)) if i not in skip])


async def _prompt_length(environment: Environment, policy: LanguagePolicy, task: Task) -> int:
    result = await environment.reset(seed=0, options={"task": task})
    return max(policy.prompt_length(policy.observe(environment, o)) for o in result.observations.values())


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
