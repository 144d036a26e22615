"""Learners: GRPO, PPO, AT-GRPO and Stable-Baselines3's PPO, one file each.

A learner collects trajectories, gives their decisions advantages, and updates a policy.
It may import rollouts, policies, losses, advantages and the types, but not configuration, training or reports.

A new one is a subclass of ``agents.algorithms.learner.Learner``. It registers itself in ``agents.registry.ALGORITHMS``.
"""
