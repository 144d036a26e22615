"""Tasks generated from a seed: reasoning-gym's families and small families.

Problem i is a pure function of the options, the split and i.
May import `reason_envs.tasks`; never a file reader.
"""
