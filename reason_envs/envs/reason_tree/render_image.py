"""Image of a tree: one row per node, coloured by its step score, with a thick line for the chosen path."""

from functools import cache
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from reason_envs.envs.reason_tree.tree import Tree

WIDTH, HEIGHT, DPI = 1400, 1000, 100
"""Width, height and resolution of every image, in pixels and pixels per inch; equal sizes make a video."""
HEAD, MARGIN = 130, 24
ROW, INDENT = 34, 34
"""Maximum distance of rows and of depths in pixels; larger trees have smaller distances."""
TREE_WIDTH = 380
"""Maximum width of the drawn tree in pixels; the rest is for the texts of the steps."""
COLUMNS = {"score": 1130, "value": 1215, "tokens": 1300, "visits": 1376}
"""Right ends of the columns of numbers, in pixels."""
LINE, PATH, PAPER, BAND, FAINT = "#9aa3ad", "#1f2933", "#ffffff", "#fff3c9", "#6b7580"
COLOURS = "RdYlBu"
QUESTION_LINES = 2


def draw_image(tree: Tree, current: int) -> np.ndarray:
    """Draw a tree and its current node as bytes [HEIGHT, WIDTH, 3], without matplotlib's global state."""
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    _draw_head(axes, tree)
    _Rows(axes, tree, current).draw()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Rows:
    """Rows of an image, one per node."""

    def __init__(self, axes: Axes, tree: Tree, current: int) -> None:
        self.axes, self.tree, self.current = axes, tree, current
        self.on_path = {0, *tree.path(current)}
        order = tree.preorder()
        self.height = min(ROW, (HEIGHT - HEAD - MARGIN) / len(order))
        indent = min(INDENT, TREE_WIDTH / max(node.depth for node in tree.nodes)) if len(order) > 1 else 0
        self.x = [MARGIN + ROW / 2 + indent * node.depth for node in tree.nodes]
        self.y = [0.0] * len(order)
        for row, index in enumerate(order):
            self.y[index] = HEAD + (row + 0.5) * self.height
        self.font = min(11.0, 0.48 * self.height)
        self.radius = 0.36 * self.height

    def draw(self) -> None:
        bottom = self.y[self.current] + self.height / 2
        self.axes.axhspan(bottom - self.height, bottom, color=BAND, zorder=0)
        for index in range(1, len(self.tree.nodes)):
            parent, chosen = self.tree.nodes[index].parent, index in self.on_path
            width, colour, order = (3.0, PATH, 2) if chosen else (1.0, LINE, 1)
            x, y = [self.x[parent], self.x[parent], self.x[index]], [self.y[parent], self.y[index], self.y[index]]
            self.axes.plot(x, y, color=colour, linewidth=width, zorder=order, solid_joinstyle="round")
        self._draw_nodes()
        for index in range(len(self.tree.nodes)):
            self._write(index)

    def _draw_nodes(self) -> None:
        for marker, ends in (("o", False), ("s", True)):
            chosen = [i for i, node in enumerate(self.tree.nodes) if node.terminal == ends]
            self.axes.scatter(
                [self.x[i] for i in chosen],
                [self.y[i] for i in chosen],
                s=(2 * self.radius * 72 / DPI) ** 2,
                c=[self.tree.nodes[i].score for i in chosen],
                cmap=COLOURS,
                vmin=0,
                vmax=1,
                marker=marker,
                edgecolors=[PATH if i in self.on_path else LINE for i in chosen],
                linewidths=[3.0 if i == self.current else 1.0 for i in chosen],
                zorder=3,
            )

    def _write(self, index: int) -> None:
        node, weight = self.tree.nodes[index], "bold" if index in self.on_path else "normal"
        style = {"fontsize": self.font, "va": "center", "parse_math": False, "fontweight": weight, "color": PATH}
        left, right = self.x[index] + self.height * 0.7, COLUMNS["score"] - 60
        step = "the problem" if index == 0 else node.text
        characters = int((right - left) / (0.62 * self.font * DPI / 72))
        self.axes.text(left, self.y[index], _printable(step, characters) or "(empty step)", **style)  # type: ignore[arg-type]
        numbers = {"value": f"{node.value:.2f}", "visits": str(node.visits)}
        if index:
            numbers |= {"score": f"{node.score:.2f}", "tokens": str(node.tokens)}
        for name, number in numbers.items():
            self.axes.text(COLUMNS[name], self.y[index], number, ha="right", **style)  # type: ignore[arg-type]


def _draw_head(axes: Axes, tree: Tree) -> None:
    question = wrap(_printable(tree.question), width=110, max_lines=QUESTION_LINES, placeholder=" …")
    axes.text(MARGIN, 22, "\n".join(question), fontsize=14, fontweight="bold", va="top", color=PATH, parse_math=False)
    for name, right in COLUMNS.items():
        axes.text(right, HEAD - 12, name, fontsize=9, ha="right", va="bottom", color=FAINT)
    bar = np.linspace(0, 1, 128)[None]
    axes.imshow(bar, cmap=COLOURS, extent=(MARGIN + 90, MARGIN + 190, HEAD - 14, HEAD - 28), aspect="auto")
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.text(MARGIN, HEAD - 21, "step score  0", fontsize=9, va="center", color=FAINT)
    key = "1      □ end of a path      thick: the chosen path      yellow: the current node"
    axes.text(MARGIN + 196, HEAD - 21, key, fontsize=9, va="center", color=FAINT)


@cache
def _known_characters() -> frozenset[int]:
    """Return the characters of matplotlib's font, which warns about all others."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _printable(text: str, characters: int | None = None) -> str:
    """Return a text in one line of characters that the font has, shortened to a number of characters."""
    line = "".join(c if ord(c) in _known_characters() else "□" for c in " ".join(text.split()))
    return line if characters is None or len(line) <= characters else line[: max(characters - 1, 1)] + "…"
