"""Grading of programs by tests.

Programs run only in a sandbox. Their results are compared with the expected ones in this process.
May import sandboxes and tasks; never another reward.
"""
