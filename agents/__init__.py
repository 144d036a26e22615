"""Learners (PPO, GRPO, AT-GRPO) for the environments of `reason_envs`."""
