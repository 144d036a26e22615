"""Evaluation on held-out problems: play them, summarise them, and give intervals.

May import rollouts, policies and the types.
The commands `agents.evaluate` and `agents.frontier` and the trainer use it.
"""
