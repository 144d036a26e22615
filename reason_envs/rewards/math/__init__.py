"""Grading of mathematical answers: extraction, normalisation and equivalence.

math-verify decides equivalence in worker processes with a time limit.
May import errors, validation and tasks; never another reward.
"""
