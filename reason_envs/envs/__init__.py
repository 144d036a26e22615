"""The environments, one module each; build them by name with ``reason_envs.make_environment``.

Each is a configuration, a plain state and an `Environment` with `reset` and `step`.
May import tasks, engines, sandboxes, reward models and rewards; never adapters.
"""
