"""Algorithms and policies by name: one file and one entry of ``parts.yaml`` for each, or one call of ``register``."""

from typing import Any

from reason_envs.registry import Part, Registry

_algorithms, _policies = (Part.built_in("agents", f"reason_envs.{kind}") for kind in ("algorithms", "policies"))
ALGORITHMS: Registry[Any] = Registry(
    "algorithm", "reason_envs.algorithms", _algorithms, keywords=("total_steps", "seed")
)
"""Learners by name: ``ALGORITHMS.make(spec, policy, environment, tasks, total_steps=..., seed=..., **options)``."""

POLICIES: Registry[Any] = Registry(
    "policy", "reason_envs.policies", _policies, keywords=("seed", "environment", "sharding")
)
"""Policies by name: ``POLICIES.make(spec, seed=..., **options)``. Those that read arrays also take ``environment=``."""
