"""A tree as text: for people, and for language policies that play it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reason_envs.core import Message
from reason_envs.envs.reason_tree.tree import Tree

MAX_STEP_CHARS = 900
"""Longest text of all steps together that a language policy reads: with the scores of the largest tree of the default
options it fits into the 2,048 positions of the embedded model."""


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


def outline(tree: Tree, current: int) -> str:
    """Write a tree compactly, a step a line in depth-first order: depth, mark, score, text.

    The mark is ``>`` where the policy stands, ``*`` on the way there, ``-`` elsewhere. Where all texts are longer than
    ``MAX_STEP_CHARS``, steps off the way have none, and each of those on it gets an equal share.
    """
    path = tree.path(current)
    whole = sum(len(node.text) for node in tree.nodes[1:]) <= MAX_STEP_CHARS
    share = MAX_STEP_CHARS // max(len(path), 1)
    lines = [tree.question]
    for index in tree.preorder()[1:]:
        node, on_path = tree.nodes[index], index in path
        mark = ">" if index == current else "*" if on_path else "-"
        text = node.text if whole else node.text[:share] if on_path else ""
        lines.append(f"{node.depth}{mark} {node.score:.0%} {text}".rstrip())
    return "\n".join(lines)


def messages(tree: Tree, current: int, legal: Mapping[int, str]) -> list[Message]:
    """Write a tree and the legal actions, number and name, as one user message."""
    at = ">" if current else "the problem"
    actions = ", ".join(rf"{name} \boxed{{{number}}}" for number, name in legal.items())
    return [{"role": "user", "content": f"{outline(tree, current)}\n\nYou stand at {at}. Choose one of: {actions}."}]


def chosen(response: str, names: Sequence[str]) -> int:
    """Return the action that a text names last, by its name or by its number in a box; -1 where it names none."""
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"(?<!\w)({longest_first})(?!\w)|\\boxed\{{\s*([0-9]{{1,3}})\s*\}}"
    found = re.findall(pattern, response, re.ASCII | re.IGNORECASE)
    if not found:
        return -1
    name, number = found[-1]
    if name:
        return names.index(name.upper())
    return int(number) if int(number) < len(names) else -1
