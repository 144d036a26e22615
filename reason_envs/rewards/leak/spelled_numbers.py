"""Whole numbers in English words: ``forty-two``, ``one hundred and five``."""

import re

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {word: value for value, word in enumerate([*_UNITS, *_TEENS])} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
"""Value of each word that is a number."""
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
"""Factor of each word that multiplies the number before it."""
_ANNOUNCED = r"(?<=\bis )|(?<=\bbe )|(?<=\bequals )|(?<=\banswer )|(?<=\bresult )|(?<== )|(?<=: )|(?<=\bminus )"
_SMALL = rf"(?:(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_UNITS[1:])}))?|{'|'.join(_TEENS)}|{'|'.join(_UNITS)})"
_JOINED = r"[- ](?:and )?"
_HUNDREDS = rf"(?:{_SMALL}[- ]hundred(?:{_JOINED}{_SMALL})?|{_SMALL})"
_ALONE = r"(?!one\b(?![- ](?:hundred|thousand|million)\b))"
SPELLED = (
    rf"(?:{_ALONE}{_HUNDREDS}(?:[- ](?:million|thousand)(?:{_JOINED}{_HUNDREDS})?){{0,2}}|(?:{_ANNOUNCED})one)(?!\w)"
)
"""Pattern of such a number. The single word "one" is often a pronoun, so it counts only after words such as "is"."""


def spelled_value(text: str) -> int:
    """Return the value of a text that ``SPELLED`` matches."""
    total = group = 0
    for word in re.split(r"[- ]+", text.lower()):
        if word in VALUES:
            group += VALUES[word]
        elif word == "hundred":
            group *= SCALES[word]
        elif word in SCALES:
            total, group = total + group * SCALES[word], 0
    return total + group
