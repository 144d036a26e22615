"""PettingSudoku-v0: a tool user and a planner fill a grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from reason_envs.envs.petting.config import PettingConfig, check_not_negative
from reason_envs.envs.petting.grid import PLANNER, TOOL, GridGame, Played
from reason_envs.tasks import Task
from reason_envs.tasks.games import sudoku_rules as rules
from reason_envs.views import GridView


@dataclass
class PettingSudokuConfig(PettingConfig):
    """Options of PettingSudoku-v0."""

    tasks: Any = field(default_factory=lambda: {"name": "sudoku"})
    """The problems: a family's name, a mapping of its ``name`` and options, or a ``TaskSet``."""
    bad_format: float = 1.0
    """Subtracted where a response is no grid, changes a clue, or is a program that fails."""
    step: float = 0.01
    """Cost of a grid."""
    conflict: float = 0.5
    """Subtracted where digits of a grid conflict."""
    win: float = 2.0
    """Paid for the solution."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "step", "conflict", "win")


@dataclass(frozen=True)
class SudokuGame:
    """A puzzle and its solution."""

    puzzle: rules.Sudoku
    """The puzzle as it is filled."""
    solution: rules.Cells
    """The only way to fill it."""


class PettingSudoku(GridGame):
    """Roles ``tool`` and ``planner`` fill a sudoku; a plan is a whole grid with dots where it stays empty.

    A grid replaces the one before; one that changes a clue is against the rules and does nothing. Value: the share of
    the cells to fill that hold the digit of the only solution, and ``win`` for all of them.
    """

    prompts: ClassVar = {
        TOOL: "Write Python that prints the filled sudoku, a row a line. `grid` is a list of rows; 0 is empty.",
        PLANNER: "Fill the dots: each row, column and box has every digit once. Answer with all rows, a row a line.",
    }
    colours: ClassVar = {".": "#f4f1ea", **{str(digit): "#dce8f5" for digit in range(1, 10)}}
    config: PettingSudokuConfig

    def __init__(self, config: PettingSudokuConfig | None = None) -> None:
        super().__init__(config or PettingSudokuConfig())

    def begin(self, task: Task) -> SudokuGame:
        """Read the drawn puzzle."""
        puzzle = rules.read(task.question)
        (solution,) = rules.solutions(puzzle.side, puzzle.cells)
        return SudokuGame(puzzle, solution)

    def board(self, game: SudokuGame) -> str:
        """Draw the clues and, where more is filled, the grid as it is."""
        clues, now = (rules.draw(game.puzzle.side, cells) for cells in (game.puzzle.clues, game.puzzle.cells))
        return clues if clues == now else f"{clues}\n\n{now}"

    def note(self, role: str, game: SudokuGame) -> str:
        """Tell the form of the boxes where it is not plain."""
        high, wide = rules.BOXES[game.puzzle.side]
        return "" if high == wide else f"A box has {high} rows and {wide} columns."

    def picture(self, game: SudokuGame) -> GridView:
        """Draw clues, right and wrong digits, and what is empty."""
        rows = zip(game.puzzle.clues, game.puzzle.cells, game.solution, strict=True)
        letters = "".join(
            "." if not cell else "c" if clue else "r" if cell == right else "w" for clue, cell, right in rows
        )
        side = game.puzzle.side
        cells = [letters[i : i + side] for i in range(0, side * side, side)]
        texts = rules.draw(side, game.puzzle.cells).replace(".", " ").splitlines()
        return GridView(cells, texts, rules.BOXES[side])

    def progress(self, game: SudokuGame) -> float:
        """Return the share of the cells to fill that are right."""
        todo = [i for i, clue in enumerate(game.puzzle.clues) if clue == rules.EMPTY]
        right = sum(game.puzzle.cells[i] == game.solution[i] for i in todo)
        return right / len(todo) if todo else 1.0

    def value(self, game: SudokuGame) -> float:
        """Return the progress and what the solution pays."""
        return self.progress(game) + self.config.win * self.solved(game)

    def solved(self, game: SudokuGame) -> bool:
        """Whether the grid is full and without conflicts."""
        return game.puzzle.solved

    def read_plan(self, text: str) -> rules.Cells | None:
        """Read a grid."""
        return rules.read_cells(text, self.state.game.puzzle.side)

    def show_plan(self, plan: rules.Cells) -> str:
        """Write the rows with slashes between them."""
        return rules.draw(self.state.game.puzzle.side, plan).replace("\n", "/")

    def play(self, game: SudokuGame, plan: rules.Cells) -> Played | None:
        """Fill."""
        filled = rules.fill(game.puzzle, plan)
        if filled is None:
            return None
        clashes = rules.conflicts(filled.side, plan)
        outcome = f"{clashes} in conflict, {plan.count(rules.EMPTY)} empty"
        cost = self.config.step + self.config.conflict * (clashes > 0)
        return Played(replace(game, puzzle=filled), "solved" if filled.solved else outcome, cost)

    def given(self, game: SudokuGame) -> str:
        """Give the grid as a list of rows."""
        side, cells = game.puzzle.side, game.puzzle.cells
        return f"grid = {[list(cells[i : i + side]) for i in range(0, len(cells), side)]!r}"
