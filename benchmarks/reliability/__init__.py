"""Harnesses that try to break the library; their results are in ``RELIABILITY.md``.

They import the toys of the tests, the library and each other.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("tests/toys", "tests/faults")]
