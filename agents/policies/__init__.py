"""Policies choose actions, and learners update them: `base.py` is the interface.

Language models (one for all roles or one per role), graph networks and multi-layer perceptrons implement it.
A policy may import the types and pure functions, but no rollout and no learner.
"""
