"""PettingMath-v0: a tool user's program and a reasoner answer until they agree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from reason_envs.envs.petting.base import MAX_OUTCOME_CHARS, Petting
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.state import Effect
from reason_envs.rewards import extract_answer, grade_math_async
from reason_envs.rewards.math.normalise import normalise
from reason_envs.tasks import Task

TOOL, REASONER = "tool", "reasoner"


@dataclass
class PettingMathConfig(PettingConfig):
    """Options of PettingMath-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""


@dataclass(frozen=True)
class MathGame:
    """A problem and the answers to it so far."""

    question: str
    """The problem."""
    gold: str
    """The right answer."""
    printed: str = ""
    """What the latest program answered; nothing where it failed."""
    answer: str = ""
    """The reasoner's standing answer."""
    correct: bool = False
    """Whether it is right."""
    agreed: bool = False
    """Whether the two are the same."""


class PettingMath(Petting):
    r"""The role ``tool`` writes a program whose last printed line is its answer, ``reasoner`` answers in ``\boxed{}``.

    The reasoner's answer stands until it gives another; the team earns the change of its correctness (0 or 1). The tool
    user is paid by ``local`` for the change of its own answer's correctness. The reasoner has the last word of a turn:
    the episode ends when it gives the answer that the latest program printed, right or wrong. An answer that takes too
    long to compare is wrong and equals none.
    """

    roles = (TOOL, REASONER)
    prompts: ClassVar = {
        TOOL: "Write Python that prints the answer.",
        REASONER: r"Solve the problem; check what the program printed. Give the answer in \boxed{}.",
    }
    config: PettingMathConfig

    def __init__(self, config: PettingMathConfig | None = None) -> None:
        super().__init__(config or PettingMathConfig())

    def begin(self, task: Task) -> MathGame:
        """Start without answers."""
        return MathGame(task.question, task.answer)

    def board(self, game: MathGame) -> str:
        """Write the problem."""
        return game.question

    def progress(self, game: MathGame) -> float:
        """Return 1 where the standing answer is right."""
        return float(game.correct)

    def value(self, game: MathGame) -> float:
        """Return 1 where the standing answer is right."""
        return float(game.correct)

    def solved(self, game: MathGame) -> bool:
        """Whether the standing answer is right."""
        return game.correct

    def finished(self, game: MathGame) -> bool:
        """Whether both answers are the same."""
        return game.agreed

    async def act(self, role: str, text: str) -> Effect:
        """Run the program, or take the reasoner's answer."""
        return await self._compute(text) if role == TOOL else await self._answer(text)

    async def _compute(self, text: str) -> Effect:
        game = replace(self.state.game, printed="")
        result = await self.programs.print_of(text)
        lines = [line.strip() for line in result.text.splitlines() if line.strip()]
        answer = _usable(extract_answer(lines[-1]) or lines[-1]) if lines else ""
        if result.trouble or not answer:
            effect = self.failed(result.trouble or "no answer printed", result.count or "unparsable_actions")
            return replace(effect, game=game, worth=0.0)
        correct = await _equal(answer, game.gold)
        return Effect(replace(game, printed=answer), answer, worth=float(correct))

    async def _answer(self, text: str) -> Effect:
        game = self.state.game
        answer = _usable(extract_answer(text) or "")
        if not answer:
            return self.unreadable("no boxed answer")
        correct = await _equal(answer, game.gold)
        agreed = bool(game.printed) and await _equal(answer, game.printed)
        outcome = "agreed" if agreed else "not what the program printed"
        return Effect(replace(game, answer=answer, correct=correct, agreed=agreed), outcome)


def _usable(answer: str) -> str:
    """Return an answer that can be compared; nothing for one that is empty or too long to be one."""
    return answer if len(answer) <= MAX_OUTCOME_CHARS and normalise(answer) else ""


async def _equal(answer: str, gold: str) -> bool:
    return (await grade_math_async(rf"\boxed{{{answer}}}", gold)).correct
