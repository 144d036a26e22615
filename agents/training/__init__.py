"""A training run: resolve its plan, build its parts, train, synchronise weights, checkpoint and save.

May import everything except the commands.
"""
