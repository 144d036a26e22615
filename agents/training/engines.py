"""The engines that sample for a language policy, or for the policies of its roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from agents.config.schema import TrainConfig, options
from reason_envs.core import AgentId
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import Capability, TrainableEngine

ENGINE_FOLLOWS_POLICY = ("model", "device", "attention")
"""Engine options that are the policy's unless given: learner and sampler must hold the same model."""


def samplers(config: TrainConfig, names: Sequence[AgentId]) -> dict[AgentId, TrainableEngine]:
    """Build the engines that sample for a language policy's parts: one that holds an adapter of each, or one each.

    Args:
        config: the run's; engine options that follow the policy are written into it.
        names: of the parts; one empty name for a policy that plays all roles.
    """
    given = _engine_options(config)
    adapters = getattr(config.engine, "max_lora_rank", 0) and config.policy.sharing == "lora_per_role"
    if adapters and config.engine.max_loras < len(names):
        raise ReasonEnvsError(
            f"engine.max_loras={config.engine.max_loras}: the roles {', '.join(names)} have an adapter each, so set "
            f"engine.max_loras={len(names)}."
        )
    if adapters:
        engine = _trainable(config, given)
        return {name: AdapterView(engine, name) for name in names}
    places = config.placement.roles or {}
    if not isinstance(places, Mapping):
        raise ReasonEnvsError(f"placement.roles={places!r} must map roles to devices: {{coder: cuda:0}}.")
    for name in places:
        if config.policy.sharing != "model_per_role" or name not in names:
            raise ReasonEnvsError(
                f"placement.roles names {name!r}: it places the models of policy.sharing=model_per_role, whose roles "
                f"here are {', '.join(filter(None, names)) or 'all one'}."
            )
    device = {name: {"device": places[name]} if name in places else {} for name in names}
    return {name: _trainable(config, {**given, **device[name]}) for name in names}


def _trainable(config: TrainConfig, given: dict[str, Any]) -> TrainableEngine:
    engine = make_engine(config.engine.name, **given)
    if not (isinstance(engine, TrainableEngine) and Capability.TRAINABLE in engine.capabilities):
        raise ReasonEnvsError(
            f"engine={config.engine.name} cannot take new weights; use engine=transformers or engine=vllm, with a "
            "model that is not quantized (neither stored so, nor by load_in_8bit or load_in_4bit)."
            f"{_own_generator(config)}"
        )
    return engine


def _own_generator(config: TrainConfig) -> str:
    """Say where the environment's generator is chosen, where it has one: not by ``engine``, which is the policy's."""
    if not hasattr(config.env, "engine"):
        return ""
    return f" For the environment's own generator set env.engine={{name: {config.engine.name}, ...}}."


def _engine_options(config: TrainConfig) -> dict[str, Any]:
    """Resolve what follows the policy, in the configuration itself, so that ``config.yaml`` tells what ran."""
    for entry in fields(config.engine):
        if entry.name in ENGINE_FOLLOWS_POLICY and getattr(config.engine, entry.name) == entry.default:
            setattr(config.engine, entry.name, getattr(config.policy, entry.name))
    return options(config.engine)
