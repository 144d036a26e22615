"""Questions about a passage of simple facts: reading comprehension with words that a tiny model knows."""

from random import Random

from reason_envs.tasks.base import Split, Task
from reason_envs.tasks.generated.base import GeneratedTaskSet, check_range, checked_size, from_random

WORDS = {
    "name": ("Tom", "Ann", "Ben", "Eva", "Max", "Lea", "Sam", "Zoe", "Ida", "Leo", "Kim", "Ray"),
    "place": ("garden", "kitchen", "garage", "office", "park", "shop", "school", "barn", "attic", "station"),
    "thing": ("ball", "book", "cup", "hat", "key", "lamp", "map", "pen", "kite", "drum"),
    "colour": ("red", "blue", "green", "black", "white", "brown", "pink", "grey"),
    "food": ("bread", "rice", "soup", "cake", "fish", "corn", "beans", "plums"),
    "animals": ("dogs", "cats", "cows", "hens", "goats", "ducks", "mice", "bees"),
    "weather": ("sunny", "windy", "rainy", "foggy", "snowy", "stormy"),
}
"""Words that fill the sentences, besides numbers."""
KINDS = (
    ("{name} is in the {place}.", "Where is {name}?", "{place}"),
    ("{name} has the {colour} {thing}.", "What does {name} have?", "{colour} {thing}"),
    ("{name} eats {food}.", "What does {name} eat?", "{food}"),
    ("There are {number} {animals}.", "How many {animals} are there?", "{number}"),
    ("The weather is {weather}.", "How is the weather?", "{weather}"),
)
"""Sentence, question and answer of each kind of fact. A passage has at most one fact of each kind."""


def fact_qa(
    split: Split, *, min_facts: int = 3, max_facts: int = 4, size: int | None = None, seed: int = 0
) -> GeneratedTaskSet:
    """Passages of simple facts, each with a question whose answer is one or two words of the passage.

    Args:
        split: ``"train"`` or ``"test"``.
        min_facts: minimum number of facts per passage.
        max_facts: maximum number of facts per passage, at most 5.
        size: number of tasks. ``None``: 10,000 for train and 2,048 for test.
        seed: seed of the tasks.
    """
    check_range(1, len(KINDS), min_facts=min_facts, max_facts=max_facts)
    drawn = from_random(lambda rng: draw(rng, min_facts, max_facts))
    return GeneratedTaskSet("fact_qa", split, drawn, checked_size(split, size, seed, None), seed)


def draw(rng: Random, min_facts: int, max_facts: int) -> Task:
    """Draw a passage and a question. ``metadata["fact"]`` is the sentence that has the answer."""
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
