"""The configuration of a run: typed options, their composition from YAML files and overrides, and the command line.

Everything is validated here, before a model is loaded.
May import the registries and the options dataclasses of parts, but not a trainer.
"""
