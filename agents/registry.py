"""Algorithms and policies by name: one file and one line here for each, or one call of ``register``."""

from typing import Any

from reason_envs.registry import Part, Registry

ALGORITHMS: Registry[Any] = Registry(
    "algorithm",
    "reason_envs.algorithms",
    {
        "at_grpo": Part("agents.algorithms.at_grpo:ATGRPO", "agents.algorithms.options:ATGRPOConfig"),
        "grpo": Part("agents.algorithms.grpo:GRPO", "agents.algorithms.options:GRPOConfig"),
        "ppo": Part("agents.algorithms.ppo:PPO", "agents.algorithms.options:PPOConfig"),
        "sb3_maskable_ppo": Part("agents.algorithms.sb3:SB3MaskablePPO", "agents.algorithms.options:SB3PPOConfig"),
        "sb3_ppo": Part("agents.algorithms.sb3:SB3PPO", "agents.algorithms.options:SB3PPOConfig"),
    },
    keywords=("total_steps", "seed"),
)
"""Learners by name: ``ALGORITHMS.make(spec, policy, environment, tasks, total_steps=..., seed=..., **options)``."""

POLICIES: Registry[Any] = Registry(
    "policy",
    "reason_envs.policies",
    {
        "graph": Part("agents.policies.graph:GraphPolicy", "agents.policies.network_config:GraphPolicyConfig"),
        "mlp": Part("agents.policies.mlp:MLPPolicy", "agents.policies.network_config:MLPPolicyConfig"),
        "language": Part(
            "agents.policies.language:LanguagePolicy", "agents.policies.language_config:LanguagePolicyConfig"
        ),
    },
    keywords=("seed", "environment"),
)
"""Policies by name: ``POLICIES.make(spec, seed=..., **options)``. Those that read arrays also take ``environment=``."""
