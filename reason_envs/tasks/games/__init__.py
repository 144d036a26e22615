"""The grid games: rules and levels side by side.

Rules are plain functions on plain dataclasses; levels are generated from a seed or read from files.
May import `reason_envs.tasks`; never an environment.
"""
