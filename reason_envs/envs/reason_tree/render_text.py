"""A tree as text, for people and for language policies, and as a web page without scripts or network."""

import re
from collections.abc import Mapping, Sequence

from jinja2 import Environment

from reason_envs.core import Message
from reason_envs.envs.reason_tree.tree import Tree
from reason_envs.resources import read_text

MAX_STEP_CHARS = 900
"""Maximum number of characters of all steps together in a prompt. With the scores of the largest tree that the default
options allow, it fits into the 2,048 positions of the embedded model."""


def draw(tree: Tree, current: int) -> str:
    """Draw a tree with one node per line: step score, text, and ``<`` at the current node."""
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
    """Write a tree compactly, one step per line in depth-first order: depth, mark, score, text.

    The mark is ``>`` at the current node, ``*`` on the path to it, and ``-`` elsewhere. If all texts together exceed
    ``MAX_STEP_CHARS``, only the steps of the path have a text, shortened to equal lengths.
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
    """Return one user message with a tree and the legal actions by number and name."""
    at = ">" if current else "the problem"
    actions = ", ".join(rf"{name} \boxed{{{number}}}" for number, name in legal.items())
    return [{"role": "user", "content": f"{outline(tree, current)}\n\nYou stand at {at}. Choose one of: {actions}."}]


def chosen(response: str, names: Sequence[str]) -> int:
    """Return the last action in a text, by name or by its number in a box; -1 if there is none."""
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"(?<!\w)({longest_first})(?!\w)|\\boxed\{{\s*([0-9]{{1,3}})\s*\}}"
    found = re.findall(pattern, response, re.ASCII | re.IGNORECASE)
    if not found:
        return -1
    name, number = found[-1]
    if name:
        return names.index(name.upper())
    return int(number) if int(number) < len(names) else -1


POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy of the page: even unescaped text could not run or load anything."""


def write_page(tree: Tree, current: int) -> str:
    """Return a tree and its current node as an HTML document."""
    page = Environment(autoescape=True).from_string(read_text(__file__, "render_html.html"))
    style = read_text(__file__, "render_html.css")
    path = {0, *tree.path(current)}
    text = page.render(tree=tree, current=current, path=path, style=style, policy=POLICY)
    # Some decoders leave lone surrogates, which cannot be written to a file.
    return text.encode("utf-8", "replace").decode() + "\n"
