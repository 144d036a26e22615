"""Grading of programs by tests.

Programs run in a sandbox only; the judge's side stays in this process.
May import sandboxes and tasks; never another reward.
"""
