"""A training run: resolve its plan, build its parts, train, synchronise weights, and save checkpoints.

Read `resolve`, `build` and `trainer` in this order.
May import everything except the commands.
"""
