"""Policies: they choose actions, and learners update them.

Language models (shared or one per role), graph networks and plain networks behind one interface.
May import the types and pure functions; never a rollout or a learner.
"""
