"""``python -m reason_envs.rewards``: grade known cases and print the results."""

import sys

from reason_envs.rewards.base import MathReward
from reason_envs.rewards.math.grade import grade_math_batch

CHECKS = (
    (r"The answer is \boxed{42}", "42", 1.0),
    (r"The answer is \boxed{43}", "42", -1.0),
    ("The answer is 42", "42", -0.5),
    (r"First \boxed{1}, then \boxed{\frac{1}{2}}", r"\frac{1}{2}", 1.0),
    (r"\boxed{0.5}", r"\frac{1}{2}", 1.0),
    (r"\boxed{1,234}", "1234", 1.0),
    (r"\boxed{(x+1)^2}", "x^2+2x+1", 1.0),
    (r"\boxed{(x-1)^2}", "x^2+2x+1", -1.0),
    (r"\boxed{\{2, 1\}}", r"\{1, 2\}", 1.0),
    (r"\boxed{\text{Friday}}", "Friday", 1.0),
    (r"\boxed{\frac{\pi}{4}}", r"45^\circ", 1.0),
    (r"\boxed{\frac{1}{2^{98}}}", r"\frac{1}{2^{99}}", -1.0),
    (r"\boxed{9^{9^{9}}}", "1", -1.0),
    (r"\boxed{40 + 2}", "42", -1.0),
    (r"\boxed{42", "42", -0.5),
)


def main() -> int:
    """Print every check. Return 1 if a check failed, otherwise 0."""
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1:] in (["--help"], ["-h"]) else 2
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
    sys.exit(main())
