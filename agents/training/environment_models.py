"""The models inside a run's environment that the run describes: what they are, and where they are placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.config.schema import TrainConfig, changed, options
from agents.training.reward_model_phase import reward_model_options
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.reward_models.base import make_reward_model

FROZEN = ("solver",)
"""Options of environments that are frozen models of their own."""
SHARED = "policy"
"""Such an option's value for the model under the policy's adapter, in the policy's own engine."""


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


def environment_models(config: TrainConfig, folder: Path, *, writes_text: bool) -> dict[str, Any]:
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


def check_shared(config: TrainConfig) -> None:
    """Refuse, before a model is loaded, to read a base model that training changes."""
    for name in shared_options(config):
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


def shared_options(config: TrainConfig) -> list[str]:
    """Return the environment's options that name the model under the policy's adapter."""
    return [name for name in FROZEN if getattr(config.env, name, None) == SHARED]


def _spec(part: Any) -> dict[str, Any]:
    return {"name": part.name, **options(part)}
