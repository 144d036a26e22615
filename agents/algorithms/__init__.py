"""Learners: GRPO, PPO, AT-GRPO, and Stable-Baselines3's PPO, one file each.

A learner collects trajectories, turns them into samples with advantages, and updates a policy.
May import rollouts, policies, losses, advantages and the types; never configuration, training or reports.
"""
