"""Good, poor and misleading guidelines for sums, and the solutions of a solver that follows them.

Two kinds of guidelines are good, depending on the sum: the running sum for a short one, and separate groups of plus and
minus terms for a long one. With the other kind the solver mostly omits the last term. So the best planner must read the
problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from benchmarks.embedded_models.base import demonstrations as demo
from benchmarks.embedded_models.base.demonstrations import QUESTION, Demonstration, boxed
from reason_envs.envs.prompt_templates import PLANNER_PROMPT, SOLVER_PROMPT, fill
from reason_envs.tasks.base import split_of

LONG = 5
"""Minimum number of terms of a long sum."""
FORGET = 0.75
"""Probability that the kind that does not fit the length omits the last term."""
VAGUE_HASTE = 0.65
"""Probability that the solver answers without steps after a vague guideline."""
WRONG_STATEMENT = 0.5
"""Share of wrong answers among the answers that guidelines state."""

WORDINGS: dict[str, tuple[str, ...]] = {
    "running": (
        "Work from left to right, step by step.",
        "Go from left to right, line by line.",
        "Write down a running sum.",
    ),
    "grouped": (
        "Group the plus and the minus terms.",
        "Add the plus terms first, then the minus terms.",
        "Sum up what is added and what is subtracted.",
    ),
    "hasty": ("Answer at once.", "Give the result without any steps.", "Just say what comes to mind."),
    "vague": (
        "Think about the numbers.",
        "Be careful with the problem.",
        "Do the best you can.",
        "Use what you know about sums.",
    ),
    "misleading": (
        "Leave out the last term.",
        "Ignore the signs and add everything.",
        "Change the sign of the result.",
    ),
    "stated": ("The answer is {answer}.", "It is {answer}.", "Write {answer} in the box."),
}
"""All wordings of guidelines by kind."""
FOLLOWED = {"running": 0.25, "grouped": 0.45, "hasty": 0.08, "vague": 0.08, "misleading": 0.1, "stated": 0.04}
"""Share of each kind in the demonstrations of the solver; the most difficult kind has the largest share."""


@dataclass(frozen=True)
class Habits:
    """Guidelines in the demonstrations of the planner, independent of the problem."""

    share: float
    """Share of demonstrations of the planner; the others are of the solver."""
    kinds: Mapping[str, float]
    """Share of each kind of guideline."""
    usual: float = 0.0
    """Probability of the first wording of a kind instead of a random one. Default: always random."""


SKILLS = Habits(
    share=0.15,
    kinds={"running": 0.23, "grouped": 0.25, "hasty": 0.17, "vague": 0.15, "misleading": 0.13, "stated": 0.07},
)
"""Phase 1: mostly the solver learns to follow guidelines."""
HABITS = Habits(
    share=0.5,
    kinds={"running": 0.28, "grouped": 0.3, "hasty": 0.19, "vague": 0.13, "misleading": 0.06, "stated": 0.04},
    usual=0.6,
)
"""Phase 2: the planner prefers a few wordings, so that it learns faster later."""


@dataclass(frozen=True)
class Guideline:
    """A guideline and its kind."""

    kind: str
    """Kind of the guideline, a key of ``WORDINGS``."""
    text: str
    """Text of the guideline for the solver."""
    answer: int | None = None
    """Answer that the guideline states; ``None`` if it states none."""


def draw_guideline(
    rng: Random, expression: str, kinds: Mapping[str, float], *, usual: float = 0.0, wrong: float = 0.0
) -> Guideline:
    """Draw a guideline. Only a stated answer depends on the problem.

    Args:
        rng: random generator.
        expression: sum of the problem.
        kinds: share of each kind.
        usual: probability of the first wording of a kind.
        wrong: probability that a stated answer is wrong.
    """
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    text = WORDINGS[kind][0] if usual and rng.random() < usual else rng.choice(WORDINGS[kind])
    if kind != "stated":
        return Guideline(kind, text)
    right = demo.running_sums(expression)[1]
    answer = demo.slip(right, rng) if rng.random() < wrong else right
    return Guideline(kind, fill(text, answer=str(answer)), answer)


def follow(guideline: Guideline, expression: str, rng: Random) -> str:
    """Solve a sum according to the guideline, with the habits of the embedded solver."""
    if guideline.kind == "vague":
        haste = rng.random() < VAGUE_HASTE
        return demo.hasty(expression) if haste else demo.careful(expression)
    if guideline.kind == "misleading":
        return _misled(guideline.text, expression)
    if guideline.kind == "stated":
        return boxed(str(guideline.answer))
    ways: dict[str, Callable[[str], str]] = {"running": demo.careful, "grouped": grouped, "hasty": demo.hasty}
    suits = guideline.kind == "hasty" or guideline.kind == best_kind(expression)
    forgets = not suits and rng.random() < FORGET
    return ways[guideline.kind](without_last_term(expression) if forgets else expression)


def best_kind(expression: str) -> str:
    """Return the best kind of guideline for a sum."""
    return "grouped" if terms(expression) >= LONG else "running"


def terms(expression: str) -> int:
    """Count the terms of a sum."""
    return (len(expression.split(" ")) + 1) // 2


def without_last_term(expression: str) -> str:
    """Return a sum without its last term, such as ``4 - 1`` for ``4 - 1 + 7``."""
    return " ".join(expression.split(" ")[:-2])


def grouped(expression: str) -> str:
    """Solve a sum without mistakes: add the plus terms, add the minus terms, and subtract."""
    first, *rest = expression.split(" ")
    signed = [("+", first), *zip(rest[::2], rest[1::2], strict=True)]
    lines: list[str] = []
    totals = []
    for sign in "+-":
        group = [term for own, term in signed if own == sign]
        steps, total = demo.running_sums(" + ".join(group)) if group else ([], 0)
        lines += steps
        totals.append(total)
    if "-" in rest:
        lines.append(f"{totals[0]} - {totals[1]} = {totals[0] - totals[1]}")
    return "\n".join([*lines, boxed(totals[0] - totals[1])])


def _misled(text: str, expression: str) -> str:
    left_out, unsigned, turned = WORDINGS["misleading"]
    if text == left_out:
        return demo.careful(without_last_term(expression))
    if text == unsigned:
        return demo.careful(expression.replace("-", "+"))
    assert text == turned
    *steps, _ = demo.careful(expression).split("\n")
    return "\n".join([*steps, boxed(-demo.running_sums(expression)[1])])


class PlannerAndSolver:
    """Demonstrations of both roles, on sums of the train split.

    Args:
        habits: habits of the planner.
    """

    def __init__(self, habits: Habits) -> None:
        self.habits = habits

    def draw(self, rng: Random, step: int) -> Demonstration:
        """Return a demonstration. The mixture is the same at every step."""
        question, expression = next(train_sums(rng))
        if rng.random() < self.habits.share:
            text = draw_guideline(rng, expression, self.habits.kinds, usual=self.habits.usual).text
            return Demonstration("planner", fill(PLANNER_PROMPT, question=question), text, problem=question)
        guideline = draw_guideline(rng, expression, FOLLOWED, wrong=WRONG_STATEMENT)
        prompt = fill(SOLVER_PROMPT, question=question, guideline=guideline.text)
        return Demonstration("solver", prompt, follow(guideline, expression, rng), problem=question)


def train_sums(rng: Random) -> Iterator[tuple[str, str]]:
    """Yield question and expression of sums of the default task in the train split."""
    while True:
        expression = demo.chain_sum_expression(rng)
        question = QUESTION.format(expression=expression)
        if split_of(question) == "train":
            yield question, expression
