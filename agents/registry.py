"""Algorithms and policies by name; each costs one file and one line here (or one call of ``register``)."""

from __future__ import annotations

from reason_envs.registry import Plugin, Registry

ALGORITHMS = Registry(
    "algorithm",
    {
        "at_grpo": Plugin("agents.algorithms.at_grpo:ATGRPO", "agents.algorithms.at_grpo:ATGRPOConfig"),
        "grpo": Plugin("agents.algorithms.grpo:GRPO", "agents.algorithms.grpo:GRPOConfig"),
        "ppo": Plugin("agents.algorithms.ppo:PPO", "agents.algorithms.ppo:PPOConfig"),
        "sb3_maskable_ppo": Plugin("agents.algorithms.sb3:SB3MaskablePPO", "agents.algorithms.sb3_config:SB3PPOConfig"),
        "sb3_ppo": Plugin("agents.algorithms.sb3:SB3PPO", "agents.algorithms.sb3_config:SB3PPOConfig"),
    },
)
"""Learners: the class is built with the parts of a run (see ``agents.algorithms.learner.Learner``)."""

POLICIES = Registry(
    "policy",
    {
        "graph": Plugin("agents.policies.graph:GraphPolicy", "agents.policies.graph:GraphPolicyConfig"),
        "mlp": Plugin("agents.policies.mlp:MLPPolicy", "agents.policies.mlp:MLPPolicyConfig"),
        "language": Plugin("agents.policies.language:LanguagePolicy", "agents.policies.language:LanguagePolicyConfig"),
    },
)
"""Policies: the class is built with its configuration and ``seed=``."""
