"""Detection of guidelines that reveal the answer.

Finds expressions, in digits or in words, whose value is the answer.
May import errors and the grading of mathematics.
"""
