"""``python -m reason_envs.rewards``: grade known cases and print the results."""

import sys

from reason_envs.resources import read_table
from reason_envs.rewards.base import MathReward
from reason_envs.rewards.math.grade import grade_math_batch

CHECKS = read_table(__file__, "known_grades.yaml")


def main() -> int:
    """Print every check. Return 1 if a check failed, otherwise 0."""
    reward = MathReward()
    grades = grade_math_batch((generated, truth) for generated, truth, _ in CHECKS)
    failed = 0
    for number, ((generated, truth, expected), grade) in enumerate(zip(CHECKS, grades, strict=True), start=1):
        value = reward.pay(grade)
        passed = value == expected
        failed += not passed
        print(f"Test {number} {'✓' if passed else '✗'}")
        print(f"  Generated: {generated}\n  Truth: {truth}\n  Predicted: {grade.extracted}")
        print(f"  Correct: {grade.correct} ({grade.reason})\n  Reward: {value} (expected: {expected})")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(print(__doc__) if sys.argv[1:] else main())
