"""The plan of a run: everything that follows from its configuration, decided once, before anything is built."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from agents import distributed
from agents.config.schema import TrainConfig, changed, options
from agents.config.swapped import PLACED
from agents.policies.language_config import LanguagePolicyConfig
from agents.policies.served import ServedPolicyConfig
from agents.reward_model.config import RewardModelConfig
from agents.training.reward_model_phase import model_options, planned_training
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.rewards import RewardConfig, check_reward
from reason_envs.validation import mounted

BASE_MODEL = "policy"
"""Value of an environment's option that stands for the model under the policy's adapter, in the policy's engine."""
FOLLOW_POLICY = ("model", "template_options", "device", "attention")
"""Engine options that take the policy's value unless they are set: learner and engine must hold the same model."""


@dataclass(frozen=True)
class RunPlan:
    """The parts of a run. `resolve` decides them, `agents.training.build.build` builds them."""

    config: TrainConfig
    """The configuration that really runs: options that follow others are filled in. ``config.yaml`` holds it."""
    folder: Path
    """The run folder."""
    writes_text: bool
    """Whether the policy is a language model, which samples with ``engine=``."""
    held_out: Any
    """Problems of the evaluations, as ``env.tasks`` takes them; ``None`` if nothing evaluates."""
    frozen_engine: Mapping[str, Any] | None
    """``name`` and options of the engine that is not trained: the environment's generator, or that of
    ``policy=served``. ``None``: the engine samples for a policy that is trained."""
    reward_model: Mapping[str, Any] | None
    """``name`` and options of the environment's step reward model; ``None`` if it has none."""
    reward_model_training: RewardModelConfig | None
    """Training of the step reward model, which must come before the run; ``None`` if the model exists already."""
    base_model_options: tuple[str, ...]
    """Options of the environment that take the model under the policy's adapter."""


def resolve(config: TrainConfig) -> RunPlan:
    """Decide everything that follows from a configuration. Nothing is loaded or written; ``config`` stays as it is.

    Raises:
        ReasonEnvsError: options contradict each other, or the environment lacks an option that learners need.
    """
    writes_text = isinstance(config.policy, LanguagePolicyConfig)
    config = _pipelined(_place(config, writes_text=writes_text), writes_text=writes_text)
    is_served = isinstance(config.policy, ServedPolicyConfig)
    if writes_text or is_served:
        config = replace(config, engine=_follow_policy(config))
    env = options(config.env)
    for name in ("tasks", "split"):
        if name not in env:
            raise ReasonEnvsError(
                f"env={config.env.name} does not have the option {name!r}, which learners need: add the fields tasks "
                "and split to its configuration (python -m reason_envs.check lists everything that is missing)."
            )
    reward = env.get("reward")
    if isinstance(reward, RewardConfig | Mapping | list) or (isinstance(reward, str) and ":" in reward):
        with mounted("env.reward"):
            check_reward(reward)
    _check_models(config, writes_text=writes_text)
    _check_processes(config, writes_text=writes_text)
    engine = {"name": config.engine.name, **options(config.engine)}
    solver = env["engine"] if writes_text and "engine" in env else engine
    training = planned_training(config, solver) if "reward_model" in env else None
    return RunPlan(
        config=config,
        folder=Path(config.output_dir),
        writes_text=writes_text,
        held_out=_held_out(config),
        frozen_engine=engine if is_served or ("engine" in env and not writes_text) else None,
        reward_model=model_options(config, training) if "reward_model" in env else None,
        reward_model_training=training,
        base_model_options=_base_model_options(config),
    )


def total_steps(config: TrainConfig, tasks: int) -> int:
    """Return the number of training steps of a run on ``tasks`` problems, as ``steps`` and ``epochs`` limit it."""
    caps = [] if config.steps is None else [config.steps]
    if config.epochs is not None:
        caps.append(math.ceil(config.epochs * tasks / config.algo.tasks_per_step))
    return min(caps)


def _place(config: TrainConfig, *, writes_text: bool) -> TrainConfig:
    """Write ``placement`` into the ``device`` option of each part."""
    parts = {}
    for name, group in PLACED.items():
        device, part = getattr(config.placement, name), getattr(config, group)
        if device is None:
            continue
        if name == "generator" and writes_text:
            raise OptionError(
                "placement.generator",
                device,
                f"has no effect with policy={config.policy.name}, whose engine is placed by engine.device. The "
                "environment's generator is placed by env.engine={name: ..., device: ...}.",
            )
        if "device" not in options(part):
            raise OptionError(f"placement.{name}", device, f"has no effect: {group}={part.name} runs on no device.")
        if changed(part, "device") and part.device != device:
            raise OptionError(
                f"placement.{name}", device, f"contradicts {group}.device={part.device!r}: give one of them."
            )
        parts[group] = replace(part, device=device)
    if not isinstance(config.placement.roles or {}, Mapping):
        raise OptionError("placement.roles", config.placement.roles, "must map roles to devices: {coder: cuda:0}.")
    return replace(config, **parts)


def _pipelined(config: TrainConfig, *, writes_text: bool) -> TrainConfig:
    """Return the configuration with the importance weights that sampling ahead needs."""
    if not config.pipeline.steps_ahead:
        return config
    correction = options(config.algo).get("correction")
    if not writes_text or correction is None:
        rule = f"needs a language policy and importance weights; this run has policy={config.policy.name} and "
        raise OptionError("pipeline.steps_ahead", 1, f"{rule}algo={config.algo.name}: set pipeline.steps_ahead=0.")
    if correction == "off":
        rule = "leaves samples of earlier weights uncorrected: set algo.correction=token, or pipeline.steps_ahead=0."
        raise OptionError("algo.correction", correction, rule)
    return replace(config, algo=replace(config.algo, correction="token")) if correction == "auto" else config


def _follow_policy(config: TrainConfig) -> Any:
    """Return the engine's options, with the policy's model and device where they are not set."""
    follow = {f.name for f in fields(config.engine)} & {f.name for f in fields(config.policy)} & {*FOLLOW_POLICY}
    unset = [name for name in follow if not changed(config.engine, name)]
    return replace(config.engine, **{name: getattr(config.policy, name) for name in unset})


def _check_models(config: TrainConfig, *, writes_text: bool) -> None:
    """Refuse options of the environment for models that the run's own groups describe."""
    env = options(config.env)
    described = [name for name in ("engine", "reward_model") if name in env and not (writes_text and name == "engine")]
    for name in described:
        if changed(config.env, name):
            raise OptionError(f"env.{name}", env[name], f"is not used in a run: set {name}= instead.")
    if described and env.get("device") is not None and not writes_text:
        rule = "is not used in a run: set placement.generator and placement.reward_model instead."
        raise OptionError("env.device", env["device"], rule)


def _check_processes(config: TrainConfig, *, writes_text: bool) -> None:
    """Refuse one GPU for all processes, two threads that gather, and sharding of what cannot be sharded."""
    groups: dict[str, Mapping[str, Any]] = {
        name: options(getattr(config, name)) for name in ("policy", "engine", "reward_model")
    }
    groups |= {f"env.{name}": value for name, value in options(config.env).items() if isinstance(value, Mapping)}
    places = {f"{name}.device": group.get("device") for name, group in groups.items()}
    places |= {f"placement.roles.{role}": device for role, device in (config.placement.roles or {}).items()}
    cluster = config.cluster
    if cluster.address == "local" and distributed.size() > cluster.learner.gpus:
        raise OptionError("cluster.address", "local", "is one process: run `ray start --head` and use auto instead.")
    for key, device in places.items():
        if cluster.address is not None and str(device).startswith("cuda:"):
            raise OptionError(
                key, device, f"cannot be given with cluster.address={cluster.address}: Ray places engines."
            )
        if distributed.size() > 1 and str(device).startswith("cuda:"):
            raise OptionError(
                key,
                device,
                f"is one GPU for all {distributed.size()} processes: leave it out, and each process uses its own GPU.",
            )
    if distributed.size() > 1 and config.pipeline.steps_ahead:
        raise OptionError("pipeline.steps_ahead", 1, "runs in one process only: set pipeline.steps_ahead=0.")
    shard = cluster.learner.shard
    if shard != "none" and not writes_text:
        raise OptionError("cluster.learner.shard", shard, "applies to policy=language only: set it to none.")
    if shard != "none" and config.policy.precision == "float16":
        raise OptionError("policy.precision", "float16", "cannot be sharded: set policy.precision=bfloat16.")


def _held_out(config: TrainConfig) -> Any:
    """Return the problems of the evaluations."""
    if not config.eval_every:
        return None
    if config.eval_set is None and config.env.split == "test":
        rule = "would train on the problems of the evaluations: set eval_set to other problems, or eval_every=0."
        raise OptionError("env.split", "test", rule)
    return config.eval_set or config.env.tasks


def _base_model_options(config: TrainConfig) -> tuple[str, ...]:
    """Return the environment's options that take the model under the policy's adapter; training must not change it."""
    found = tuple(name for name, value in options(config.env).items() if isinstance(value, str) and value == BASE_MODEL)
    policy, engine = config.policy, options(config.engine)
    for name in found:
        fix = f"or give the frozen model its own engine, env.{name}={{name: ..., model: ...}}."
        rule = ""
        if not (isinstance(policy, LanguagePolicyConfig) and policy.uses_lora):
            rule = "is the model under the policy's adapter, but the policy has no adapter: set policy.lora_rank=16,"
        elif policy.sharing != "shared":
            rule = f"needs one adapter, but policy.sharing={policy.sharing}: set policy.sharing=shared,"
        elif not engine.get("max_lora_rank"):
            rule = (
                "needs an engine that keeps the adapter apart from the model, but engine="
                f"{config.engine.name} gets merged weights: set engine=vllm engine.max_lora_rank=<policy.lora_rank>,"
            )
        if rule:
            raise OptionError(f"env.{name}", BASE_MODEL, f"{rule} {fix}")
    return found
