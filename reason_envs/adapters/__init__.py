"""The environments behind interfaces that others know: Gymnasium, PettingZoo, Stable-Baselines3, TRL and OpenEnv.

One file per interface.
May import registration and the core; never a single environment.
"""
