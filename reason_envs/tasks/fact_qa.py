"""Questions about a passage of simple facts: reading comprehension in words that a tiny model knows."""

from __future__ import annotations

from random import Random

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task
from reason_envs.tasks.generated import GeneratedTaskSet, checked_size, from_random

NAMES = ("Tom", "Ann", "Ben", "Eva", "Max", "Lea", "Sam", "Zoe", "Ida", "Leo", "Kim", "Ray")
PLACES = ("garden", "kitchen", "garage", "office", "park", "shop", "school", "barn", "attic", "station")
THINGS = ("ball", "book", "cup", "hat", "key", "lamp", "map", "pen", "kite", "drum")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey")
FACTS = (1, 6)
"""Fewest and most facts of a passage that may be asked for."""


def fact_qa(
    split: Split, *, min_facts: int = 3, max_facts: int = 4, size: int | None = None, seed: int = 0
) -> GeneratedTaskSet:
    """Passages of simple facts, each with a question that a word or two of the passage answer.

    Args:
        split: ``"train"`` or ``"test"``.
        min_facts: fewest facts of a passage.
        max_facts: most facts of a passage.
        size: how many problems; by default 10,000 (train) or 2,048 (test).
        seed: picks the problems.
    """
    if not FACTS[0] <= min_facts <= max_facts <= FACTS[1]:
        raise ReasonEnvsError(
            f"min_facts={min_facts}, max_facts={max_facts}: they must keep {FACTS[0]} <= min <= max <= {FACTS[1]}."
        )
    drawn = from_random(lambda rng: draw(rng, min_facts, max_facts))
    return GeneratedTaskSet("fact_qa", split, drawn, checked_size(split, size, seed, None), seed)


def draw(rng: Random, min_facts: int, max_facts: int) -> Task:
    """Draw a passage and a question; ``metadata["fact"]`` is the sentence that answers it."""
    count = rng.randint(min_facts, max_facts)
    names, places, things = (rng.sample(words, count) for words in (NAMES, PLACES, THINGS))
    facts = [_fact(rng, *words) for words in zip(names, places, things, strict=True)]
    sentence, question, answer = rng.choice(facts)
    passage = " ".join(fact[0] for fact in facts)
    metadata = {"domain": "qa", "context": passage, "fact": sentence}
    return Task("", f"Passage: {passage}\nQuestion: {question}", answer, metadata)


def _fact(rng: Random, name: str, place: str, thing: str) -> tuple[str, str, str]:
    """Return a sentence, a question about it, and the answer."""
    if rng.random() < 0.5:
        sentence = f"{name} is in the {place}."
        pairs = [(f"Where is {name}?", place), (f"Who is in the {place}?", name)]
    else:
        colour = rng.choice(COLOURS)
        sentence = f"{name} has the {colour} {thing}."
        pairs = [(f"What does {name} have?", f"{colour} {thing}"), (f"Who has the {colour} {thing}?", name)]
    return (sentence, *rng.choice(pairs))
