"""Tasks from files and from data sets of the hub, and the benchmarks by name.

Formats and fields of records are recognised here. Errors name the file and the line.
May import `reason_envs.tasks`; never a generator.
"""
