"""The engines that sample for a language policy, or for the policies of its roles."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.config.schema import options
from agents.policies.roles import language_parts
from agents.training.resolve import RunPlan
from reason_envs.core import AgentId
from reason_envs.errors import EngineError, OptionError
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import Capability, Engine, TrainableEngine


def policy_engines(
    plan: RunPlan, roles: Sequence[AgentId], make: Callable[[Any], Engine]
) -> dict[AgentId, TrainableEngine]:
    """Build the engines of a language policy: one that holds an adapter of each role, or one for each role.

    A policy that plays all roles has one role with an empty name. ``make`` builds an engine.

    Raises:
        OptionError: the engine holds too few adapters, or ``placement.roles`` does not fit the policy.
        EngineError: the engine cannot take new weights.
    """
    config = plan.config
    engine, places = {"name": config.engine.name, **options(config.engine)}, config.placement.roles or {}
    if engine.get("max_lora_rank") and config.policy.sharing == "lora_per_role":
        if config.engine.max_loras < len(roles):
            rule = f"must be at least {len(roles)}: the roles {', '.join(roles)} have one adapter each."
            raise OptionError("engine.max_loras", config.engine.max_loras, rule)
        shared = _trainable(plan, make(engine))
        return {role: AdapterView(shared, role) for role in roles}
    for role in places:
        if config.policy.sharing != "model_per_role" or role not in roles:
            raise OptionError(
                "placement.roles",
                places,
                f"names {role!r}, but it places the models of policy.sharing=model_per_role. Roles here: "
                f"{', '.join(filter(None, roles)) or 'one policy plays all of them'}.",
            )
    device = {role: {"device": places[role]} if role in places else {} for role in roles}
    return {role: _trainable(plan, make({**engine, **device[role]})) for role in roles}


def connect_parts(policy: Any, engines: Mapping[AgentId, TrainableEngine], *, may_share: bool) -> None:
    """Let each part of a policy sample with its engine. Both share the weights if all of them are trained here."""
    for name, part in language_parts(policy).items():
        part.engine = engines[name]
        if may_share and not (part.uses_lora or part.sharding):
            engines[name].share_weights(part.export_weights())


def _trainable(plan: RunPlan, engine: Engine) -> TrainableEngine:
    name = plan.config.engine.name
    if not (isinstance(engine, TrainableEngine) and Capability.TRAINABLE in engine.capabilities):
        own = f" For the environment's own generator set env.engine={{name: {name}, ...}}."
        raise EngineError(
            f"engine={name} cannot take new weights; use engine=transformers or engine=vllm with a model that is not "
            "quantized (neither stored quantized, nor with load_in_8bit or load_in_4bit)."
            f"{own if 'engine' in options(plan.config.env) else ''}"
        )
    return engine
