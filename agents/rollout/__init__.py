"""Rollouts: independent or grouped episodes, and the turn trees of AT-GRPO.

A rollout plays an environment with a policy and returns trajectories.
It may import policies and the types, but no learner.
"""
