"""PettingSudoku-v0: a tool user and a planner fill a grid."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from reason_envs.envs.petting.base import GAMES
from reason_envs.envs.petting.config import PettingConfig
from reason_envs.envs.petting.grid import GridGame
from reason_envs.envs.petting.state import DecisionResult
from reason_envs.tasks import Task
from reason_envs.tasks.games import sudoku_rules as rules
from reason_envs.views import GridView


@dataclass
class PettingSudokuConfig(PettingConfig):
    """Options of PettingSudoku-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "sudoku"})
    bad_format: float = 1.0
    """Penalty of a response that has no grid, changes a clue, or is a program that fails."""
    step: float = 0.01
    """Cost of each grid, subtracted from the role's reward."""
    conflict: float = 0.5
    """Penalty of a grid in which digits conflict."""
    win: float = 2.0
    """Reward for the solution."""


@dataclass(frozen=True)
class SudokuGame:
    """A puzzle and its solution."""

    puzzle: rules.Sudoku
    """Puzzle with the current digits."""
    solution: rules.Cells
    """Cells of the only solution."""


class PettingSudoku(GridGame):
    """Roles ``tool`` and ``planner`` fill a sudoku; a plan is a whole grid with dots for empty cells.

    A plan replaces the previous grid. A plan that changes a clue is against the rules and has no effect. The value is
    the share of the empty cells that hold the digit of the solution, plus ``win`` for the solution.
    """

    prompts: ClassVar = GAMES["sudoku"]["prompts"]
    colours: ClassVar = GAMES["sudoku"]["colours"]
    config_class = PettingSudokuConfig
    config: PettingSudokuConfig

    def new_game(self, task: Task) -> SudokuGame:
        """Read the puzzle from the problem and solve it."""
        puzzle = rules.read(task.question)
        (solution,) = rules.solutions(puzzle.side, puzzle.cells)
        return SudokuGame(puzzle, solution)

    def board(self, game: SudokuGame) -> str:
        """Return the clues and, if more cells are filled, the current grid."""
        clues, now = (rules.draw(game.puzzle.side, cells) for cells in (game.puzzle.clues, game.puzzle.cells))
        return clues if clues == now else f"{clues}\n\n{now}"

    def role_hint(self, role: str, game: SudokuGame) -> str:
        """Return the shape of the boxes if they are not square."""
        high, wide = rules.BOXES[game.puzzle.side]
        return "" if high == wide else f"A box has {high} rows and {wide} columns."

    def picture(self, game: SudokuGame) -> GridView:
        """Return a picture of clues, right and wrong digits, and empty cells."""
        rows = zip(game.puzzle.clues, game.puzzle.cells, game.solution, strict=True)
        letters = "".join(
            "." if not cell else "c" if clue else "r" if cell == right else "w" for clue, cell, right in rows
        )
        side = game.puzzle.side
        cells = [letters[i : i + side] for i in range(0, side * side, side)]
        texts = rules.draw(side, game.puzzle.cells).replace(".", " ").splitlines()
        return GridView(cells, texts, rules.BOXES[side])

    def progress(self, game: SudokuGame) -> float:
        """Return the share of the cells without a clue that are right."""
        todo = [i for i, clue in enumerate(game.puzzle.clues) if clue == rules.EMPTY]
        right = sum(game.puzzle.cells[i] == game.solution[i] for i in todo)
        return right / len(todo) if todo else 1.0

    def value(self, game: SudokuGame) -> float:
        """Return the progress, plus ``win`` for the solution."""
        return self.progress(game) + self.config.win * self.solved(game)

    def read_plan(self, text: str) -> rules.Cells | None:
        """Read a grid from text."""
        return rules.read_cells(text, self.state.game.puzzle.side)

    def show_plan(self, plan: rules.Cells) -> str:
        """Return the rows with slashes between them."""
        return rules.draw(self.state.game.puzzle.side, plan).replace("\n", "/")

    def play(self, game: SudokuGame, plan: rules.Cells) -> DecisionResult | None:
        """Fill the cells."""
        filled = rules.fill(game.puzzle, plan)
        if filled is None:
            return None
        clashes = rules.conflicts(filled.side, plan)
        outcome = f"{clashes} in conflict, {plan.count(rules.EMPTY)} empty"
        cost = self.config.step + self.config.conflict * (clashes > 0)
        return DecisionResult(replace(game, puzzle=filled), "solved" if filled.solved else outcome, -cost)

    def tool_preamble(self, game: SudokuGame) -> str:
        """Return the grid as a Python list of rows."""
        side, cells = game.puzzle.side, game.puzzle.cells
        return f"grid = {[list(cells[i : i + side]) for i in range(0, len(cells), side)]!r}"
