"""Responses that the roles of the Petting environments learn: careful, hasty, partial and broken ones.

Each kind of response starts with a specific word, so that a learner can learn to prefer a kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from benchmarks.embedded_models.base import demonstrations as demo
from benchmarks.embedded_models.petting.sokoban_solver import solve
from reason_envs.envs.petting.base import Petting
from reason_envs.envs.petting.code import CODER, TESTER, PettingCode
from reason_envs.envs.petting.grid import PLANNER, TOOL, GridGame
from reason_envs.envs.petting.math import REASONER, PettingMath
from reason_envs.envs.petting.plan_path import PettingPlanPath
from reason_envs.envs.petting.sokoban import PettingSokoban
from reason_envs.envs.petting.sudoku import PettingSudoku
from reason_envs.tasks.games import plan_path_rules as plan_path
from reason_envs.tasks.games import sudoku_rules as sudoku
from reason_envs.tasks.games.moves import MOVES

BEST, COPIED = "best", "copied"
"""The kind that succeeds, and the kind that copies the output of the tool user's program."""
OPENINGS = {
    BEST: "Carefully",
    "partial": "In part",
    "rash": "Straight on",
    "random": "At random",
    COPIED: "As tried",
    "broken": "No idea",
}
"""First words of each kind of response. In a program they are a comment."""
WON = ("goal", "solved")
"""Starts of the outcome of a successful plan."""
PRINTS = {BEST: 0.14, "partial": 0.2, "rash": 0.34, "random": 0.2, "broken": 0.12}
"""Share of each kind for roles that write code, before reinforcement learning."""
ANSWERS = {BEST: 0.08, COPIED: 0.14, "partial": 0.2, "rash": 0.34, "random": 0.14, "broken": 0.1}
"""Share of each kind for roles that can copy the result of another role."""


@dataclass(frozen=True)
class Role:
    """Responses of a role."""

    write: Callable[[str, Petting, Random], str]
    """Returns a response of a kind in the state of an environment, without its first words."""
    code: bool
    """Whether the role writes code."""

    @property
    def habits(self) -> Mapping[str, float]:
        """Share of each kind of response."""
        return PRINTS if self.code else ANSWERS


def respond(env: Petting, kind: str, rng: Random) -> str:
    """Return a response of a kind for the acting role."""
    role = ROLES[type(env), env.role]
    text = role.write(kind, env, rng)
    return f"# {OPENINGS[kind]}\n{text}" if role.code else f"{OPENINGS[kind]}: {text}"


def best_kind(env: Petting) -> str:
    """Return the kind of a careful role: a copy of a plan that was just tried with success, or the best response."""
    return COPIED if env.role == PLANNER and _tried(env)[1].startswith(WON) else BEST


def _tried(env: Petting) -> list[str]:
    """Return the output of the latest program and its outcome."""
    outcome = env.state.entries[-1].outcome if env.state.entries else ""
    plan, _, verdict = outcome.partition(" ")
    return [plan, verdict]


def _boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def _planner(plan: Callable[[str, Petting, Random], str]) -> Role:
    def write(kind: str, env: Petting, rng: Random) -> str:
        if kind == "broken":
            return "-"
        return _boxed(_tried(env)[0] if kind == COPIED else plan(kind, env, rng))

    return Role(write, code=False)


def _tool(plan: Callable[[str, Petting, Random], str]) -> Role:
    def write(kind: str, env: Petting, rng: Random) -> str:
        return 'print("' if kind == "broken" else f'print("{plan(kind, env, rng)}")'

    return Role(write, code=True)


def _wander(rng: Random) -> str:
    return "".join(rng.choices(list(MOVES), k=4))


def _half(moves: str) -> str:
    return moves[: (len(moves) + 1) // 2]


def _straight(start: tuple[int, int], end: tuple[int, int]) -> str:
    rows, columns = end[0] - start[0], end[1] - start[1]
    return ("D" if rows > 0 else "U") * abs(rows) + ("R" if columns > 0 else "L") * abs(columns)


def walk_plan(kind: str, env: Petting, rng: Random) -> str:
    """Plan a walk: the shortest one, its first half, one that ignores walls, or a random one."""
    grid = env.state.game.grid
    best = plan_path.shortest_path(grid) or ""
    plans = {BEST: best, "partial": _half(best), "rash": _straight(grid.player, grid.goal), "random": _wander(rng)}
    return plans[kind]


def push_plan(kind: str, env: Petting, rng: Random) -> str:
    """Plan pushes: the minimum number, the first half of them, straight to a box, or random moves."""
    level = env.state.game
    best = solve(level) or _wander(rng)
    box = min(level.boxes - level.goals, default=level.player)
    straight = _straight(level.player, box)
    return {BEST: best, "partial": _half(best), "rash": straight + straight[-1:], "random": _wander(rng)}[kind]


def grid_plan(kind: str, env: Petting, rng: Random) -> str:
    """Fill a sudoku: correctly, every second gap, with digits missing in the row, or with random digits."""
    game = env.state.game
    side, clues, solution = game.puzzle.side, game.puzzle.clues, game.solution
    cells = list(solution)
    gaps = [i for i, clue in enumerate(clues) if clue == sudoku.EMPTY]
    for place, i in enumerate(gaps):
        row = clues[i - i % side : i - i % side + side]
        if kind == "rash":
            cells[i] = rng.choice([digit for digit in range(1, side + 1) if digit not in row])
        elif kind == "random" or (kind == "partial" and place % 2):
            cells[i] = rng.randint(1, side) if kind == "random" else sudoku.EMPTY
    return sudoku.draw(side, tuple(cells)).replace("\n", "/")


def _expression(env: Petting) -> str:
    return env.state.game.question.split(": ", 1)[1].removesuffix(" =")


def _sum_program(kind: str, env: Petting, rng: Random) -> str:
    expression = _expression(env)
    shown = {
        BEST: expression,
        "partial": expression.rsplit(" ", 2)[0],
        "rash": expression.replace("-", "+"),
        "random": str(rng.randint(-99, 200)),
    }
    return "print(" if kind == "broken" else f"print({shown[kind]})"


def _sum_answer(kind: str, env: Petting, rng: Random) -> str:
    expression = _expression(env)
    if kind == BEST:
        return demo.careful(expression)
    if kind == "partial":
        return demo.careful(expression.rsplit(" ", 2)[0])
    if kind == COPIED:
        return _boxed(_tried(env)[0])
    if kind == "rash":
        return demo.hasty(expression)
    return "-" if kind == "broken" else _boxed(str(rng.randint(-99, 200)))


def _function(kind: str, env: Petting, rng: Random) -> str:
    code = env.task.answer.rstrip("\n")
    number = re.compile(r"\b[2-9]\b")
    wrong = {
        BEST: code,
        "partial": "def f(x):\n    return x",
        "rash": number.sub(lambda found: str(rng.randint(2, 9)), code, count=1),
        "random": f"def f(x):\n    return x {rng.choice('+-*')} {rng.randint(2, 9)}",
        "broken": "def f(x):\n    return (",
    }
    return wrong[kind]


def _tests(kind: str, env: Petting, rng: Random) -> str:
    right = [re.sub(r"'", "", test) for test in env.task.metadata["test_list"]]
    if kind == "broken":
        return "assert f("
    if kind == "random":
        return f"assert f({rng.randint(0, 9)}) == {rng.randint(-20, 60)}"
    chosen = right[2:3] if kind == "partial" else right[2:5]
    if kind == BEST:
        return "\n".join(chosen)
    return "\n".join(_off(test, rng) if kind == "rash" else test for test in chosen)


def _off(test: str, rng: Random) -> str:
    call, value = test.split(" == ")
    return f"{call} == {int(value) + rng.choice((-2, -1, 1, 2))}"


ROLES: dict[tuple[type[Petting], str], Role] = {
    (PettingPlanPath, TOOL): _tool(walk_plan),
    (PettingPlanPath, PLANNER): _planner(walk_plan),
    (PettingSokoban, TOOL): _tool(push_plan),
    (PettingSokoban, PLANNER): _planner(push_plan),
    (PettingSudoku, TOOL): _tool(grid_plan),
    (PettingSudoku, PLANNER): _planner(grid_plan),
    (PettingMath, TOOL): Role(_sum_program, code=True),
    (PettingMath, REASONER): Role(_sum_answer, code=False),
    (PettingCode, CODER): Role(_function, code=True),
    (PettingCode, TESTER): Role(_tests, code=True),
}
"""Responses of every role of every environment."""


def decision_success(env: Petting, role: str) -> float:
    """Return 1 if the latest decision of a role succeeds, otherwise 0; for tests, their mutation score."""
    if role in (TESTER, TOOL) and not isinstance(env, GridGame):
        return env.state.contribution_values[role]
    return float(_tried(env)[1].startswith(WON) if role == TOOL else env.solved(env.state.game))
