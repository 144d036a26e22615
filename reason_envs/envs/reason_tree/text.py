"""A tree as text: for people, and for language policies that play it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reason_envs.core import Message
from reason_envs.envs.reason_tree.tree import Tree


def draw(tree: Tree, current: int) -> str:
    """Draw a tree with one node a line: step score, the step, and where the policy stands (``<``)."""
    on_path = {0, *tree.path(current)}
    lines = [tree.question]

    def below(index: int, indent: str) -> None:
        children = tree.nodes[index].children
        for i, child in enumerate(children):
            node, last = tree.nodes[child], i == len(children) - 1
            mark = " <" if child == current else (" *" if child in on_path else "")
            lines.append(f"{indent}{'└─' if last else '├─'} {node.score:.2f}  {node.text!s}{mark}")
            below(child, indent + ("   " if last else "│  "))

    below(0, "")
    return "\n".join(lines)


def messages(tree: Tree, current: int, legal: Sequence[str]) -> list[Message]:
    """Write a tree and the legal actions as one user message."""
    at = "the problem itself" if current == 0 else f"step {tree.nodes[current].depth}"
    content = f"{draw(tree, current)}\n\nYou stand at {at} (marked <). Choose one of: {', '.join(legal)}."
    return [{"role": "user", "content": content}]


def last_name(response: str, names: Sequence[str]) -> int:
    """Return the number of the action whose name comes last in a text, or -1."""
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    found = re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", response.upper())
    return names.index(found[-1]) if found else -1
