"""Grading of short answers in words: normalisation and F1 of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from reason_envs.tasks.text import without_thoughts

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
VERDICTS = frozenset({"yes", "no", "noanswer"})
"""Answers that earn no partial F1 (rule of HotpotQA)."""


def normalise_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and articles unless nothing else is left."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split() or text.lower().split()


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 of a prediction over the accepted answers.

    Precision counts as much as recall, so an answer among many other words, as in a copy of the passage, has
    a low F1.
    """
    return max(
        (_f1(normalise_words(without_thoughts(prediction)), normalise_words(answer)) for answer in answers), default=0.0
    )


def _f1(predicted: list[str], gold: list[str]) -> float:
    if predicted == gold:
        return 1.0 if gold else 0.0
    if VERDICTS & {" ".join(predicted), " ".join(gold)}:
        return 0.0
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
