r"""Detection of guidelines that reveal the answer.

A guideline leaks if it has an expression whose value is the answer (``42``, ``forty-two``, ``6*7``, ``\frac{84}{2}``)
and the question does not have the same expression. Numbers of lists do not leak. This is a filter without a guarantee:
it misses an answer in parts, in another language or in a riddle.
"""

import re

from reason_envs.rewards.leak.expressions import Value, equal, evaluate, expressions, runs
from reason_envs.rewards.math.normalise import named_value, normalise
from reason_envs.rewards.math.notation import read_number
from reason_envs.tasks.text import last_boxed

_ANNOUNCING = {"is", "are", "be", "equals", "equal", "answer", "result", "gives", "get", "becomes", "to", "=", "number"}
"""Words after which a number is not the number of a list item."""
_LIST_NUMBER = re.compile(
    r"(?:(?<=\s)|^)(?P<lead>step\s+|[(#])?(?P<number>\d{1,2})(?P<mark>[.):]+(?=\s|$)|(?=\s))", re.I
)
_BLANKS = r"\s*"
_BULLET = re.compile(r"^[ \t]*[-*•+][ \t]+", re.MULTILINE)
_TEXT = r"\\(?:text|textbf|mathrm|mbox)\s*"
_UNIT = re.compile(rf"{_TEXT}\{{[^{{}}]*\}}(?:\^\{{?\d\}}?)?|\\?%|\^\s*(?:\\circ|\{{\\circ\}})|\\degree|°|[$€£¥]")
_LAYOUT = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\[!,;: ]|\$")
_CHOICE = rf"(?:(?:answer|option|choice|result)(?: is)?:? *|\\boxed\{{)(?:{_TEXT}\{{)?\(?WORD\b|\(WORD\)"


def find_leak(guideline: str, question: str, answer: str) -> str | None:
    """Return the part of a guideline that reveals the answer, or ``None``.

    Args:
        guideline: text of the planner.
        question: question for the solver; a guideline may quote its expressions.
        answer: gold answer. If it is not a number, the same spelling is searched; a word or a letter leaks only if the
            text calls it the answer.
    """
    gold = named_value(normalise(last_boxed(answer) or answer))
    value = evaluate(_UNIT.sub("", read_number(gold) or gold).strip())
    if value is None:
        return _find_text(guideline, question, gold)
    return _find_value(without_list_numbers(guideline), question, value)


def without_list_numbers(text: str) -> str:
    """Remove bullets and the numbers ``1.``, ``2)``, ``Step 3`` of lists. The numbers must count up from 1."""
    text = _BULLET.sub("", text)
    parts, end, due = [], 0, 1
    for match in _LIST_NUMBER.finditer(text):
        number = int(match["number"])
        if number in (1, due) and _stands_in_list(text[max(0, match.start() - 40) : match.start()], match, number):
            parts.append(text[end : match.start()])
            end, due = match.end(), number + 1
    return "".join([*parts, text[end:]])


def _stands_in_list(before: str, match: re.Match[str], number: int) -> bool:
    if not match["mark"] and not (match["lead"] or "").lower().startswith("step"):
        return False
    line = before.rpartition("\n")[2].rstrip()
    if not line or line[-1] in ".;!?,)":
        return True
    word = re.split(r"[\s:]+", line.rstrip(":").strip())[-1].lower()
    is_announced = word in _ANNOUNCING or line[-1] == "="
    return not is_announced and (number > 1 or line[-1] == ":" or bool(match["lead"]))


def _find_value(guideline: str, question: str, value: Value) -> str | None:
    there = " | ".join(" ".join(token.text for token in run) for run in runs(question))
    signed = [found.value for found in expressions(question) if found.is_number]
    bare = [token.value for run in runs(question) for token in run if token.kind == "number"]
    is_given = any(equal(number, value) for number in [*signed, *bare])
    for found in expressions(guideline):
        if equal(found.value, value):
            quoted = is_given if found.is_number else f" {found.text} " in f" {there} "
            if not quoted:
                return found.text
    return None


def _find_text(guideline: str, question: str, gold: str) -> str | None:
    """Search the spelling of an answer that is not a number, ignoring spaces."""
    plain = re.sub(rf"{_TEXT}\{{([^{{}}]*)\}}", r"\1", gold).strip("() ")
    if plain.replace(" ", "").isalpha():
        pattern = _CHOICE.replace("WORD", re.escape(plain))
        match = re.search(pattern, guideline, 0 if len(plain) == 1 else re.IGNORECASE)
        return match[0] if match else None
    spelled = [re.escape(character) for character in re.sub(r"\s", "", _LAYOUT.sub("", gold))]
    pattern = rf"(?<!\w){_BLANKS.join(spelled)}(?!\w)"
    if spelled and re.search(pattern, _LAYOUT.sub("", guideline)) and not re.search(pattern, _LAYOUT.sub("", question)):
        return gold
    return None
