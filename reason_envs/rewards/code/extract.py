"""Extraction of the code from a response: lines are read and fences are paired."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_DEPTH = 5
"""Maximum number of blocks around a block."""
_FENCE = re.compile(r"(?P<lead>.*?)(?<![`~])(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`~]*)")
_MARGIN = re.compile(r"[\s>]*(?:(?:[-*+]|\d+[.)])\s+)?")
"""What may stand before a fence: indentation, quote marks and the mark of a list item."""
_PYTHON = re.compile(r"[\s{.]*i?py(?:thon)?(?![a-z])", re.IGNORECASE)


@dataclass
class _Block:
    fence: str
    info: str
    """Text after the opening fence, which starts with the language."""
    margin: int
    """Number of characters before the opening fence."""
    parent: _Block | None
    """Open block that contains this one; ``None``: none."""
    depth: int
    """Number of blocks that contain this one."""
    lines: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def rank(self) -> int:
        """2 for Python, 1 if no language is named, 0 for other languages."""
        return 2 if _PYTHON.match(self.info) else 0 if self.info else 1

    def add(self, line: str) -> None:
        self.lines.append(re.sub(rf"^[\s>]{{1,{self.margin}}}", "", line) if self.margin else line)

    def is_example(self) -> bool:
        """Return whether this block is in the docstring of a Python block."""
        parent = self.parent
        if parent is None:
            return False
        return parent.is_example() or (parent.rank == 2 and (parent.closed or self.margin > parent.margin))


def extract_code(response: str) -> str:
    """Return the code of a response: the last block in Python, or else the last block without a language, or any block.

    Fences are three or more backticks or tildes. They may be indented, quoted or follow text. A block that is never
    closed ends with the text, and nested blocks are paired. Without a block, the whole response is the code.
    """
    lines = response.replace("\r\n", "\n").split("\n")
    blocks = [block for block in _read_blocks(lines) if not block.is_example()]
    if not blocks:
        return response
    code = max(reversed(blocks), key=lambda block: block.rank)
    if len(blocks) == 1 and not (code.closed or code.info or "".join(code.lines).strip()):
        code.lines = lines[: len(lines) - len(code.lines) - 1]  # a closing fence: the opening one is in the prompt
    return "".join(f"{line}\n" for line in code.lines)


def _read_blocks(lines: list[str]) -> list[_Block]:
    """Return all blocks in the order of their opening fences."""
    blocks: list[_Block] = []
    inner: _Block | None = None
    for line in lines:
        match = _FENCE.fullmatch(line)
        outer = inner
        if match and inner and match["fence"].startswith(inner.fence) and not match["info"].strip():
            if _MARGIN.fullmatch(match["lead"]) is None:
                inner.add(match["lead"])
            inner.closed, inner = True, inner.parent
            outer = inner
        elif match and _opens(match, inner):
            is_bare = _MARGIN.fullmatch(match["lead"]) is not None
            margin, depth = len(match["lead"]) if is_bare else 0, inner.depth + 1 if inner else 0
            inner = _Block(match["fence"], match["info"].strip(), margin, inner, depth)
            blocks.append(inner)
        while outer:
            outer.add(line)
            outer = outer.parent
    return blocks


def _opens(match: re.Match[str], inner: _Block | None) -> bool:
    """Return whether a line opens a block. After text and inside of a block a fence needs a language."""
    if _MARGIN.fullmatch(match["lead"]) is None:
        return inner is None and _PYTHON.fullmatch(match["info"].strip()) is not None
    return inner is None or (match["info"].strip() != "" and inner.depth < MAX_DEPTH)
