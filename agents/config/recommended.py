"""Defaults that follow from another choice of a run: what trains in an environment, and how fast a model learns."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from agents.algorithms.optimizer import OptimizerConfig
from agents.policies.language_config import LanguagePolicyConfig
from agents.registry import POLICIES

LANGUAGE: dict[str, str | float] = {"algo": "grpo", "policy": "language"}
"""What trains unless the command says otherwise."""
SEARCH: dict[str, str | float] = {"algo": "ppo", "policy": "graph"}
"""What trains in a search tree unless the command says otherwise."""
PETTING: dict[str, str | float] = {
    "algo": "at_grpo",
    "policy": "language",
    "model": "embedded:petting",
    "learning_rate": 6e-4,
}
"""What trains where several roles take turns unless the command says otherwise."""
PARTNERS: dict[str, dict[str, str | float]] = {
    **{f"petting_{game}": PETTING for game in ("math", "code", "sokoban", "sudoku", "plan_path")},
    "planner_solver": {**LANGUAGE, "model": "embedded:planner_solver", "learning_rate": 6e-4},
    "reason_tree": SEARCH,
    "reason_tree_paper": SEARCH,
    "workflow": {**LANGUAGE, "model": "embedded:workflow", "learning_rate": 3e-4},
}
"""The learner and policy of each environment that does not take ``LANGUAGE``; with a ``model`` where that is not the
policy's own default, and the ``learning_rate`` that suits this model, which no other model takes."""
NO_MODEL = "none"
NETWORK_RATE = 1e-3
"""Learning rate of policies that are no language models: small networks, which begin untrained."""
TEXT: dict[str, dict[str, float | None]] = {
    "ppo": {
        **{"tasks_per_step": 64, "minibatch_size": None, "epochs_per_batch": 2, "lam": 1.0, "entropy_coef": 0.0},
        **{"value_learning_rate": 1e-3, "optimizer.learning_rate": 5e-5, "optimizer.max_grad_norm": 1.0},
    },
}
"""Options of a learner with a policy that writes text, where its own defaults suit one that draws single actions."""


def register_resolvers() -> None:
    """Tell OmegaConf the functions by which defaults follow another choice."""
    OmegaConf.register_new_resolver("partner", _partner, replace=True)
    OmegaConf.register_new_resolver("rate_of_partner", _rate_of_partner, replace=True)
    OmegaConf.register_new_resolver("of_text", _chosen, replace=True)


def follow_choices(group: str, name: str, node: Any) -> None:
    """Write into a part's options those defaults that follow another choice.

    Args:
        group: such as ``algo``.
        name: the part's, in its group.
        node: its options, changed in place.
    """
    if group == "policy" and "model" in node:
        node.model = f"${{partner:model,${{env.name}},{node.model}}}"
    if group != "algo":
        return
    suited = {key: _of_text(OmegaConf.select(node, key), text) for key, text in TEXT.get(name, {}).items()}
    if "learning_rate" in node.get("optimizer", ()):
        rate = suited.pop("optimizer.learning_rate", node.optimizer.learning_rate)
        given = f"${{env.name}},${{oc.select:policy.model,{NO_MODEL}}},{rate}"
        node.optimizer.learning_rate = f"${{rate_of_partner:{given}}}"
    for key, value in suited.items():
        OmegaConf.update(node, key, value)


def _of_text(own: float | None, text: float | None) -> str:
    """Write an option whose default depends on whether the policy writes text."""
    found = ("null" if value is None else str(value) for value in (own, text))
    return f"${{of_text:${{policy.name}},{','.join(found)}}}"


def _chosen(policy: str, own: float | None, text: float | None) -> float | None:
    """Return the default that suits a policy: one that writes text has the options of a language policy."""
    writes_text = issubclass(POLICIES[policy].config_class(), LanguagePolicyConfig)
    return text if writes_text else own


def _partner(what: str, env: str, default: str = "") -> str | float:
    """Return an environment's learner, policy or model, unless it has none of its own."""
    return PARTNERS.get(env, LANGUAGE).get(what, default)


def _rate_of_partner(env: str, model: str, default: float) -> str | float:
    """Return the learning rate that suits an environment's own model, or a policy that is no language model.

    Every other model has the ``default``, and so has every policy under a learner with a rate of its own.
    """
    if model == NO_MODEL and default == OptimizerConfig().learning_rate:
        return NETWORK_RATE
    own = _partner("model", env) == model
    return PARTNERS[env].get("learning_rate", default) if own else default
