"""Environments in which several roles act in turns ("Stronger Together", PettingLLMs, arXiv 2510.11062).

Each game has one file; `base.py` has the turns, rewards and prompts that all share.
May import the same parts as `reason_envs.envs`; never another environment family.
"""
