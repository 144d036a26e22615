"""Defaults that depend on another choice: on the environment, which recommends them, or on the policy.

Options with such a default are missing from the composed configuration, unless the command line or a preset gives them,
until `fill_in` sets them.
"""

from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict

from agents.algorithms.config import OptimizerConfig
from agents.config.schema import GROUPS, choice
from agents.policies.language_config import LanguagePolicyConfig
from reason_envs import registration
from reason_envs.llm.embedded import is_embedded

CHOICES = {"algo": "grpo", "policy": "language"}
"""Algorithm and policy of environments that recommend no others."""
MODEL, RATE = "policy.model", "algo.optimizer.learning_rate"
OTHER = {"policy.max_tokens": 512, "algo.tasks_per_step": 8}
"""Defaults of runs that train a model which does not ship with this library: longer responses, and fewer per step."""
NETWORK_RATE = 1e-3
"""Learning rate of policies that are not language models: small networks that start untrained."""
TEXT: dict[str, dict[str, float | None]] = {
    "ppo": {
        **{"algo.tasks_per_step": 64, "algo.minibatch_size": None, "algo.epochs_per_batch": 2, "algo.lam": 1.0},
        **{"algo.entropy_coef": 0.0, "algo.value_learning_rate": 1e-3, RATE: 5e-5, "algo.optimizer.max_grad_norm": 1.0},
    }
}
"""Defaults of an algorithm for policies that write text. Its other defaults are for policies that draw one action."""


def leave_open(group: str, name: str, node: DictConfig) -> None:
    """Remove the defaults of a group's part that follow from other choices from the node of its options."""
    keys = [MODEL, RATE, *OTHER, *TEXT.get(name, {}), *(_other_models(name) if group == "env" else ())]
    for path in [key.partition(".")[2] for key in keys if key.startswith(f"{group}.")]:
        owner = OmegaConf.select(node, path.rpartition(".")[0]) if "." in path else node
        if owner is not None and path.rpartition(".")[2] in owner:
            OmegaConf.update(node, path, MISSING)


def fill_in(config: DictConfig) -> None:
    """Set the options that `leave_open` removed and that nothing else set."""
    recommends = registration.ENVIRONMENTS[config.env.name].recommends
    names = {group: config[group].name for group in (*CHOICES, "env")}
    own = OmegaConf.create({group: choice(GROUPS[group][1](name), name) for group, name in names.items()})
    text = TEXT.get(config.algo.name, {})
    suited = text if issubclass(GROUPS["policy"][1](config.policy.name), LanguagePolicyConfig) else {}
    recommended = recommends.get("model", OmegaConf.select(own, MODEL))
    _fill(config, MODEL, recommended)
    model = OmegaConf.select(config, MODEL)
    other = model is not None and not is_embedded(model) and model != recommended
    rate = suited.get(RATE, OmegaConf.select(own, RATE))
    if model is None and rate == OptimizerConfig().learning_rate:
        rate = NETWORK_RATE
    if model == recommended:
        rate = recommends.get("learning_rate", rate)
    _fill(config, RATE, None if other and rate == OptimizerConfig().learning_rate else rate)
    for key in {**OTHER, **text}:
        _fill(config, key, suited.get(key, OTHER.get(key) if other and key in OTHER else OmegaConf.select(own, key)))
    for key, value in _other_models(config.env.name).items():
        path, _, option = key.rpartition(".")
        part = f"{path}.name"  # another reward has other options
        name = OmegaConf.select(own, part)
        if isinstance(listed := OmegaConf.select(config, path), ListConfig):
            for entry in listed if other else ():
                if isinstance(entry, DictConfig) and entry.get("name") == name:
                    with open_dict(entry):
                        entry.setdefault(option, value)
            continue
        suits = other and OmegaConf.select(config, part) == name
        _fill(config, key, value if suits else OmegaConf.select(own, key))


def _other_models(env: str) -> dict[str, Any]:
    """Return an environment's defaults for models that do not ship with this library, by key."""
    return {f"env.{key}": value for key, value in registration.ENVIRONMENTS[env].other_models.items()}


def _fill(config: DictConfig, key: str, value: Any) -> None:
    """Set an option that is missing."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    if node is not None and OmegaConf.is_missing(node, name):
        node[name] = value
