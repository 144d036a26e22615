"""Environments, one module or folder each; ``reason_envs.make_environment`` builds them by name.

Each has a configuration, a plain state and a subclass of a base class in `task_environment.py`.
May import tasks, engines, sandboxes, reward models and rewards; never adapters.
"""
