"""Tasks read from files and hub data sets, and the named benchmarks.

Formats and record fields are recognised here; errors name file and line.
May import `reason_envs.tasks`; never a generator.
"""
