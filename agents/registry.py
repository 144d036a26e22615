"""Algorithms and policies by name; each costs one file and one line here (or one call of ``register``)."""

from __future__ import annotations

from reason_envs.plugins import Plugin, Registry

ALGORITHMS = Registry("algorithm", {"grpo": Plugin("agents.grpo:GRPO", "agents.grpo:GRPOConfig")})
"""Learners: the class is built with the parts of a run (see ``agents.learner.Learner``)."""

POLICIES = Registry(
    "policy",
    {"language": Plugin("agents.policies.language:LanguagePolicy", "agents.policies.language:LanguagePolicyConfig")},
)
"""Policies: the class is built with its configuration and ``seed=``."""
