r"""Extraction of the final answer from a response.

A response has one answer. If it offers several values beside its last box, all of them are its answer, so that a guess
cannot be hidden.
"""

import re
from collections.abc import Callable, Sequence

from reason_envs.rewards.math.normalise import normalise, plain_number
from reason_envs.rewards.math.notation import is_computation
from reason_envs.tasks.text import NUMBER, after_hashes, last_box, without_thoughts
from reason_envs.validation import check_choice

OR = r"\text{or}"
"""Separator of the answers that a response offers."""
MAX_DISTANCE = 200
"""Maximum number of characters beside the last box in which more answers are searched."""
_OFFERS = frozenset(["or", "maybe", "perhaps", "possibly", "probably", "alternatively", "otherwise", "else", "unless"])
_SILENT = _OFFERS.union(
    ["and", "also", "it", "is", "be", "could", "can", "might", "may", "the", "answer", "even", "just", "either", "both"]
)
_LEADS = frozenset([None, "\n", ":", "is", "are", "be", "either", "answer"])
"""Tokens before an offered value; ``None`` is the start of the text."""
_LAYOUT = frozenset(
    ["$", ",", ";", "**", "~", r"\quad", r"\qquad", r"\lor", r"\vee", r"\\", *(f"\\{sign}" for sign in ",;:! ()[]")]
)
_TOKEN = re.compile(r"\\(?:text|begin|end)\s*\{[^{}]*\}|\\(?:[A-Za-z]+|.)|[A-Za-z]+|\s+|\*\*|.", re.DOTALL)
_BREAK = re.compile(
    r"\s*\n\s*|[=:]|[A-Za-z]{2,}|\\(?:\w*arrow|to|implies|iff|therefore|times|cdot|in|tag|equiv|[pb]?mod)"
)
_VALUE = re.compile(r"(?!\(?\w\)$|.*\\(?!pi$|infty$|circ$|degree$)[A-Za-z]+$)[-+\w\\(\[{](?:.*[\w)}\]|%!])?", re.DOTALL)
_LISTED = re.compile(r"(?!\\(?:%|text|mathrm|circ|degree))(?:(?=.*\d)[-+\d\\(\[]|[A-Za-z] ?[-+<>])", re.DOTALL)
_IN_BRACKETS = re.compile(r"(?:[\s$,;./*~]|\\quad|\\[,;! ]|and)*+(\((?!\w+\)|.*%).*\))[\s$.*]*")
_SAYS_NOTHING = re.compile(
    rf"(?:[\s$.,;*()]|\\[)\]])*+(?:$|I\b|(?!(?:{'|'.join(_SILENT)})\b)[A-Za-z]{{2}})", re.IGNORECASE
)
_ANSWER = re.compile(r"answer(?: is|:)$", re.IGNORECASE)
_EQUALS = r"[\s$]*(?:=|\\approx|≈)[\s$]*"
_RATIO = rf"({NUMBER}|\\[dt]?frac\{{\d+\}}\{{\d+\}})"
_EQUAL_BEFORE = re.compile(rf"(?:^|:|\b(?:is|are|be|answer))[\s$*]*{_RATIO}{_EQUALS}$")
_EQUAL_AFTER = re.compile(rf"{_EQUALS}{_RATIO}(?=[\s$.*)]*$)")


def boxed_answer(response: str) -> str | None:
    r"""Return the answer in the last box of a response, with other answers that the response offers beside it.

    These are boxes and values that only ``or``, ``and``, a comma or nothing separates from the last box:
    ``\boxed{5} or \boxed{7}`` and ``5 or \boxed{7}`` give ``5 \text{or} 7``. A number that is said to equal the last
    box also counts: ``5 = \boxed{7}``. Equal answers count once.
    """
    box = last_box(response)
    if box is None or not box[2]:
        return None
    start, end, answer = box
    others: list[str] = []
    while (earlier := last_box(response, start)) and earlier[1] <= start and _joins(response[earlier[1] : start]):
        start = earlier[0]
        others.insert(0, earlier[2])
    before = response[max(0, start - MAX_DISTANCE) : start].rpartition("boxed{")[2]
    before = before if "nswer" in before else before.rpartition("\n")[2]
    after = response[end : end + MAX_DISTANCE].partition("\n")[0]
    lead = before.rstrip(" $*~\\[(,;.\n")
    is_lead = not lead or lead[-1] in "=:≈" or (lead[-2:].isalpha() and "\\" not in lead[-9:])
    if not is_lead or lead.endswith("and") or not _OFFERS.isdisjoint(before[-40:].lower().replace("(", " ").split()):
        others = [*_value_before(before), *others]
    if not _SAYS_NOTHING.match(after):
        others = [*_value_after(after), *others]
    offered = [other for other in others if other and not _same(other, answer)]
    equal = _EQUAL_AFTER.match(after) if is_lead else None
    if lead[-1:] in ("=", "≈", "x") and "%" not in after + answer:
        equal = equal or _EQUAL_BEFORE.search(before, max(0, len(before) - 60))
    if equal and _is_far(equal[1], answer):
        answer += rf" \approx {equal[1]}"
    return f" {OR} ".join([*offered, answer])


def _joins(between: str) -> bool:
    """Return whether a text between two boxes offers both."""
    tokens = _TOKEN.findall(between[: MAX_DISTANCE + 1])
    words, size = _silent(tokens, "/|&().:")
    is_list = not words or "and" in words or "\n" not in between
    return size == len(tokens) <= MAX_DISTANCE and (is_list or bool(words & _OFFERS))


def _silent(tokens: Sequence[str], layout: str) -> tuple[set[str], int]:
    """Return the words of the first tokens that say nothing about a value, and the number of these tokens."""
    words: set[str] = set()
    for size, token in enumerate(tokens):
        word = (token[5:].strip("{} ") if token.startswith(r"\text") else token).strip().lower()
        if word in _SILENT:
            words.add(word)
        elif word and token not in _LAYOUT and token not in layout:
            return words, size
    return words, len(tokens)


def _value_before(line: str) -> list[str]:
    tokens = _TOKEN.findall(line)[::-1]
    words, size = _silent(tokens, "(/.")
    rest, skipped = tokens[size:], tokens[:size]
    end = next((n for n, token in enumerate(rest) if _BREAK.fullmatch(token)), len(rest))
    lead = rest[end].strip(" ").lower() if end < len(rest) else None
    value = "".join(rest[:end][::-1]).strip(" $*")
    is_offered = (words <= {"and"} and lead in _LEADS) or bool(words & _OFFERS)
    if not words & _OFFERS and ("." in skipped or any("\n" in token for token in skipped)):
        is_offered = _ANSWER.search("".join(rest[end:][::-1])) is not None
    is_step = lead == "=" and is_computation(normalise(value))
    return [value] if is_offered and not is_step and _VALUE.fullmatch(value) else []


def _value_after(line: str) -> list[str]:
    tokens = _TOKEN.findall(line)
    words, size = _silent(tokens, ".()/")
    rest = tokens[size:]
    end = next((n for n, token in enumerate(rest) if token != "=" and _BREAK.fullmatch(token)), len(rest))
    value = re.split(r"[.;]\s", "".join(rest[:end]))[0].strip(" $*.)")
    if words <= {"and"} and (bracketed := _IN_BRACKETS.fullmatch(line)):
        return [bracketed[1]]
    is_whole = words <= {"and"} and "(" not in tokens[:size] and end == len(rest) and "=" not in value
    is_list = is_whole and ("," in tokens[:size] or _LISTED.match(value))
    return [value] if (is_list or words & _OFFERS) and _VALUE.fullmatch(value) else []


def _is_far(text: str, answer: str) -> bool:
    """Return whether a number is not the answer, or its rounded value, as far as that can be said without algebra."""
    number, value = plain_number(normalise(text)), plain_number(normalise(answer))
    return number is None or value is None or abs(number - value) > abs(value) / 100


def _same(one: str, other: str) -> bool:
    one, other = normalise(one), normalise(other)
    return one == other or (plain_number(one) is not None and plain_number(one) == plain_number(other))


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
        check_choice("fallbacks", name, ANSWER_FALLBACKS)
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
