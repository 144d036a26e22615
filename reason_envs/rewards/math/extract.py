"""Extraction of the final answer from a response."""

import re
from collections.abc import Callable, Sequence

from reason_envs.errors import OptionError, did_you_mean
from reason_envs.rewards.math.boxes import boxed_answer
from reason_envs.tasks.text import NUMBER, after_hashes, without_thoughts

_NUMBER = re.compile(rf"(?<![\w.]){NUMBER}")


def last_number(text: str) -> str | None:
    """Return the last plain number of a text, such as ``"-1,234.5"``, or ``None``."""
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


ANSWER_FALLBACKS: dict[str, Callable[[str], str | None]] = {"####": after_hashes, "last_number": last_number}
"""Ways to find the answer of a response without a box, by name. None is used by default."""


def check_answer_fallbacks(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of ``ANSWER_FALLBACKS`` as a tuple.

    Raises:
        OptionError: a name is unknown.
    """
    for name in names:
        if name not in ANSWER_FALLBACKS:
            valid = ", ".join(ANSWER_FALLBACKS)
            rule = f"is not an answer fallback.{did_you_mean(str(name), ANSWER_FALLBACKS)} Valid: {valid}."
            raise OptionError("fallbacks", name, rule)
    return tuple(names)


def extract_answer(response: str, answer_fallbacks: Sequence[str] = ()) -> str | None:
    r"""Return the answer in the last ``\boxed{}`` of a response (see `boxed_answer`), or ``None``.

    Args:
        response: text that the model generated. Its ``<think>`` blocks are not read.
        answer_fallbacks: names of ``ANSWER_FALLBACKS``, tried in this order if no box has an answer. An empty or
            unclosed box has none.
    """
    readers = [boxed_answer, *(ANSWER_FALLBACKS[name] for name in check_answer_fallbacks(answer_fallbacks))]
    response = without_thoughts(response)
    answers = (reader(response) for reader in readers)
    return next((answer for answer in answers if answer), None)
