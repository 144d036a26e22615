"""The environments, a module each; build them by name with ``reason_envs.make_environment``."""
