"""Questions about a passage of simple facts: reading comprehension with words that a tiny model knows."""

from random import Random

from reason_envs.resources import read_table
from reason_envs.tasks.generated.base import Draw, Problem, check_range, generated

_TABLE = read_table(__file__, "fact_qa.yaml")
WORDS: dict[str, list[str]] = _TABLE["words"]
KINDS: list[list[str]] = _TABLE["kinds"]


@generated
def fact_qa(*, min_facts: int = 3, max_facts: int = 4) -> Draw:
    """Passages of simple facts, each with a question whose answer is one or two words of the passage.

    Args:
        min_facts: minimum number of facts per passage.
        max_facts: maximum number of facts per passage, at most 5.
    """
    check_range(1, len(KINDS), min_facts=min_facts, max_facts=max_facts)
    return lambda rng: draw(rng, min_facts, max_facts)


def draw(rng: Random, min_facts: int, max_facts: int) -> Problem:
    """Draw a passage and a question. ``metadata["fact"]`` is the sentence that has the answer."""
    kinds = rng.sample(KINDS, rng.randint(min_facts, max_facts))
    facts = []  # a sentence, its question and its answer, filled with words
    for kind, name in zip(kinds, rng.sample(WORDS["name"], len(kinds)), strict=True):
        words = {group: rng.choice(choices) for group, choices in WORDS.items()}
        words |= {"name": name, "number": str(rng.randint(2, 99))}
        facts.append([text.format(**words) for text in kind])
    sentence, question, answer = rng.choice(facts)
    passage = " ".join(fact[0] for fact in facts)
    return f"Passage: {passage}\nQuestion: {question}", answer, {"domain": "qa", "context": passage, "fact": sentence}
