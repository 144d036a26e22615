"""Tasks generated from a seed: the families of reasoning-gym, and small families.

Task i is a pure function of the options, the split and i.
May import `reason_envs.tasks`; never a file reader.
"""
