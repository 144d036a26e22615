"""Environments that several roles play in turns (PettingLLMs, "Stronger Together", arXiv 2510.11062).

One file per game; `base.py` has the turns, the rewards and the prompts that they share.
May import the same parts as `reason_envs.envs`; never another environment family.
"""
