"""Image of an episode: the board as coloured cells, and the decisions as text beside it."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

WIDTH, HEIGHT, DPI = 1000, 600, 100
"""Width, height and resolution of every image, in pixels and pixels per inch."""
BOARD, MARGIN = 520, 20
"""Width of the board on the left, and of the margin, in pixels."""
LINE, LETTERS = 17, 58
"""Distance of lines in pixels, and maximum number of characters per line."""
PAPER, EDGE, INK = "#ffffff", "#c3cad1", "#1f2933"


def draw_image(board: str, colours: Mapping[str, str], texts: Sequence[str]) -> np.ndarray:
    """Draw a board of characters and, beside it, the newest texts that fit, as bytes [HEIGHT, WIDTH, 3].

    The first text always stays on top. Without colours of the characters' cells, the board is written as text.
    """
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    if colours:
        _draw_cells(axes, board.splitlines(), colours)
    else:
        _write(axes, _lines([board]), MARGIN)
    head, *others = texts
    room = (HEIGHT - 2 * MARGIN) // LINE - 1
    _write(axes, [*_lines([head]), *_lines(others)[-room:]], BOARD)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_cells(axes: Axes, rows: Sequence[str], colours: Mapping[str, str]) -> None:
    side = (BOARD - 2 * MARGIN) / max(len(rows), *(len(row) for row in rows))
    for i, row in enumerate(rows):
        for j, symbol in enumerate(row):
            x, y = MARGIN + j * side, MARGIN + i * side
            axes.add_patch(Rectangle((x, y), side, side, facecolor=colours[symbol], edgecolor=EDGE))
            centre = (x + side / 2, y + side / 2)
            axes.text(*centre, symbol, ha="center", va="center", fontsize=0.4 * side, color=INK, parse_math=False)


def _lines(texts: Sequence[str]) -> list[str]:
    """Break texts into lines of ASCII characters."""
    plain = (text.expandtabs(4).encode("ascii", "backslashreplace").decode() for text in texts)
    return [part for text in plain for line in text.splitlines() for part in wrap(line, LETTERS) or [""]]


def _write(axes: Axes, lines: Sequence[str], x: float) -> None:
    for i, line in enumerate(lines[: (HEIGHT - 2 * MARGIN) // LINE]):
        y = MARGIN + (i + 0.7) * LINE
        axes.text(x, y, line, fontsize=8, color=INK, family="monospace", parse_math=False)
