"""Adapters to the interfaces of Gymnasium, PettingZoo, Stable-Baselines3, TRL, OpenEnv and verifiers.

`controller.py` turns several agents into one, and `loop.py` runs asynchronous environments for synchronous callers.
May import registration and the core; never a specific environment.
"""
