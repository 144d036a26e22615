"""Reading the final answer out of a model's response."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from reason_envs.errors import unknown_name
from reason_envs.tasks.text import NUMBER, after_hashes, last_boxed

_NUMBER = re.compile(rf"(?<![\w.]){NUMBER}")


def last_number(text: str) -> str | None:
    """Return the last plain number written in a text (``"-1,234.5"``), or ``None``."""
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


FALLBACKS: dict[str, Callable[[str], str | None]] = {"####": after_hashes, "last_number": last_number}
"""Ways to find an answer where a response has no box; none is used unless it is asked for."""


def check_fallbacks(fallbacks: Sequence[str]) -> tuple[str, ...]:
    """Return the fallbacks as a tuple; an unknown name is an error that lists the valid ones."""
    for name in fallbacks:
        if name not in FALLBACKS:
            raise unknown_name("answer fallback", name, FALLBACKS)
    return tuple(fallbacks)


def extract_answer(response: str, fallbacks: Sequence[str] = ()) -> str | None:
    r"""Return the answer in the last ``\boxed{}`` of a response.

    Args:
        response: what the model wrote.
        fallbacks: names from ``FALLBACKS``, tried in this order where no box holds an answer.

    Returns:
        The answer as written, or ``None``. An empty box and one that is never closed hold no answer.
    """
    readers = [last_boxed, *(FALLBACKS[name] for name in check_fallbacks(fallbacks))]
    answers = (reader(response) for reader in readers)
    return next((answer for answer in answers if answer), None)
