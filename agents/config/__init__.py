"""The configuration of a run: typed options, composition from YAML and overrides, and the command line's grammar.

May import the registries and option dataclasses; never a trainer.
Everything is checked here, before a model is loaded.
"""
