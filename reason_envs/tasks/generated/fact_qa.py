"""Questions about a passage of simple facts: reading comprehension in words that a tiny model knows."""

from __future__ import annotations

from random import Random

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task
from reason_envs.tasks.generated.base import GeneratedTaskSet, checked_size, from_random

WORDS = {
    "name": ("Tom", "Ann", "Ben", "Eva", "Max", "Lea", "Sam", "Zoe", "Ida", "Leo", "Kim", "Ray"),
    "place": ("garden", "kitchen", "garage", "office", "park", "shop", "school", "barn", "attic", "station"),
    "thing": ("ball", "book", "cup", "hat", "key", "lamp", "map", "pen", "kite", "drum"),
    "colour": ("red", "blue", "green", "black", "white", "brown", "pink", "grey"),
    "food": ("bread", "rice", "soup", "cake", "fish", "corn", "beans", "plums"),
    "animals": ("dogs", "cats", "cows", "hens", "goats", "ducks", "mice", "bees"),
    "weather": ("sunny", "windy", "rainy", "foggy", "snowy", "stormy"),
}
"""What the facts are made of, besides numbers."""
KINDS = (
    ("{name} is in the {place}.", "Where is {name}?", "{place}"),
    ("{name} has the {colour} {thing}.", "What does {name} have?", "{colour} {thing}"),
    ("{name} eats {food}.", "What does {name} eat?", "{food}"),
    ("There are {number} {animals}.", "How many {animals} are there?", "{number}"),
    ("The weather is {weather}.", "How is the weather?", "{weather}"),
)
"""Sentence, question and answer of each kind of fact; a passage has none twice."""


def fact_qa(
    split: Split, *, min_facts: int = 3, max_facts: int = 4, size: int | None = None, seed: int = 0
) -> GeneratedTaskSet:
    """Passages of simple facts, each with a question that a word or two of the passage answer.

    Args:
        split: ``"train"`` or ``"test"``.
        min_facts: fewest facts of a passage.
        max_facts: most facts of a passage, at most 5.
        size: how many problems; by default 10,000 (train) or 2,048 (test).
        seed: picks the problems.
    """
    if not 1 <= min_facts <= max_facts <= len(KINDS):
        raise ReasonEnvsError(
            f"min_facts={min_facts}, max_facts={max_facts}: they must keep 1 <= min <= max <= {len(KINDS)}."
        )
    drawn = from_random(lambda rng: draw(rng, min_facts, max_facts))
    return GeneratedTaskSet("fact_qa", split, drawn, checked_size(split, size, seed, None), seed)


def draw(rng: Random, min_facts: int, max_facts: int) -> Task:
    """Draw a passage and a question; ``metadata["fact"]`` is the sentence that answers it."""
    kinds = rng.sample(KINDS, rng.randint(min_facts, max_facts))
    names = rng.sample(WORDS["name"], len(kinds))
    facts = [_fact(rng, kind, name) for kind, name in zip(kinds, names, strict=True)]
    sentence, question, answer = rng.choice(facts)
    passage = " ".join(fact[0] for fact in facts)
    metadata = {"domain": "qa", "context": passage, "fact": sentence}
    return Task("", f"Passage: {passage}\nQuestion: {question}", answer, metadata)


def _fact(rng: Random, kind: tuple[str, ...], name: str) -> list[str]:
    """Fill a sentence, its question and its answer with words."""
    words = {group: rng.choice(choices) for group, choices in WORDS.items()}
    words |= {"name": name, "number": str(rng.randint(2, 99))}
    return [text.format(**words) for text in kind]
