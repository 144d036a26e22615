"""Policies: what chooses actions and what learners update."""
