"""Grid games: for each game, ``NAME_rules.py`` (what moves do) beside ``NAME_tasks.py`` (where levels come from).

To add a game, write these two files and add the family to `reason_envs.tasks.registry`. `moves` has what games share.
Rules are plain functions on frozen dataclasses; levels are generated from a seed or read from files.
May import `reason_envs.tasks`; never an environment.
"""
