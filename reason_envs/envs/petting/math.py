"""PettingMath-v0: a tool user's program and a reasoner give answers until they agree."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from reason_envs.envs.petting.base import GAMES, MAX_OUTCOME_CHARS, Petting
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.state import DecisionResult
from reason_envs.rewards import extract_answer, grade_math_async
from reason_envs.rewards.math.normalise import normalise
from reason_envs.tasks import Task

TOOL, REASONER = "tool", "reasoner"


@dataclass
class PettingMathConfig(PettingConfig):
    """Options of PettingMath-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "chain_sum"})


@dataclass(frozen=True)
class MathGame:
    """A problem and the current answers."""

    question: str
    """Text of the problem."""
    gold: str
    """Right answer of the problem."""
    printed: str = ""
    """Answer of the latest program; empty if the program failed."""
    answer: str = ""
    """Latest answer of the reasoner."""
    correct: bool = False
    """Whether the reasoner's answer is right."""
    agreed: bool = False
    """Whether the reasoner's answer equals that of the program."""


class PettingMath(Petting):
    r"""Role ``tool`` writes a program whose last printed line is its answer; role ``reasoner`` answers in ``\boxed{}``.

    The team earns the change of the correctness (0 or 1) of the reasoner's latest answer. The tool user earns, as its
    local reward, the change of the correctness of the printed answer. The episode ends when the reasoner gives the
    answer that the latest program printed, right or wrong. An answer that takes too long to compare is wrong.
    """

    roles = (TOOL, REASONER)
    prompts: ClassVar = GAMES["math"]["prompts"]
    config_class = PettingMathConfig
    config: PettingMathConfig

    def new_game(self, task: Task) -> MathGame:
        """Return the problem without answers."""
        return MathGame(task.question, task.answer)

    def progress(self, game: MathGame) -> float:
        """Return 1.0 if the latest answer is right, else 0.0."""
        return float(game.correct)

    def finished(self, game: MathGame) -> bool:
        """Return whether both answers are equal."""
        return game.agreed

    async def act(self, role: str, text: str) -> DecisionResult:
        """Run the tool user's program, or read the reasoner's answer."""
        return await self._compute(text) if role == TOOL else await self._answer(text)

    async def _compute(self, text: str) -> DecisionResult:
        game = replace(self.state.game, printed="")
        printed = await self.printed(text)
        if isinstance(printed, DecisionResult):
            return replace(printed, game=game, contribution_value=0.0)
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        answer = _usable(extract_answer(lines[-1]) or lines[-1]) if lines else ""
        if not answer:
            return replace(self.unreadable("no answer printed"), game=game, contribution_value=0.0)
        correct = await _equal(answer, game.gold)
        return DecisionResult(replace(game, printed=answer), answer, contribution_value=float(correct))

    async def _answer(self, text: str) -> DecisionResult:
        game = self.state.game
        answer = _usable(extract_answer(text) or "")
        if not answer:
            return self.unreadable("no boxed answer")
        correct = await _equal(answer, game.gold)
        agreed = bool(game.printed) and await _equal(answer, game.printed)
        outcome = "agreed" if agreed else "not what the program printed"
        return DecisionResult(replace(game, answer=answer, correct=correct, agreed=agreed), outcome)


def _usable(answer: str) -> str:
    """Return an answer, or an empty text if it is empty or too long to be compared."""
    return answer if len(answer) <= MAX_OUTCOME_CHARS and normalise(answer) else ""


async def _equal(answer: str, gold: str) -> bool:
    return (await grade_math_async(rf"\boxed{{{answer}}}", gold)).correct
