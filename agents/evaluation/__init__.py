"""Evaluation on held-out problems: play them, and summarise them with confidence intervals.

The trainer and the commands `agents.evaluate` and `agents.frontier` use it.
May import rollouts, policies and the types.
"""
