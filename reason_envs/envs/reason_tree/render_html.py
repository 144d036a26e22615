"""Web page of a tree: a single file without scripts or network, whose nodes open and close by click or tap."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from reason_envs.envs.reason_tree.tree import Node, Tree

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy of the page: even unescaped text could not run or load anything."""


def write_page(tree: Tree, current: int) -> str:
    """Return a tree and its current node as an HTML document."""
    # Some decoders leave lone surrogates, which cannot be written to a file.
    return "".join(_document(tree, current)).encode("utf-8", "replace").decode()


def _document(tree: Tree, current: int) -> Iterator[str]:
    question, style = escape(tree.question), Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    yield (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n<title>{question[:80]}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>\n{style}</style></head>\n'
        f'<body><h1>{question}</h1>\n<p>{_totals(tree)}</p>\n<div class="tree">'
    )
    yield from _nodes(tree, current)
    yield "</div>\n</body></html>\n"


def _totals(tree: Tree) -> str:
    return (
        f"{len(tree.nodes) - 1} steps · {tree.generated_tokens} tokens generated in {tree.generator_calls} calls · "
        f"{tree.reward_model_tokens} tokens read by the reward model · bold: the chosen path · framed: the current "
        "node"
    )


def _nodes(tree: Tree, current: int) -> Iterator[str]:
    on_path = {0, *tree.path(current)}
    open_lists: list[int] = []  # number of children missing in each open list
    waiting = iter(tree.preorder())
    yield "<ul>"
    for index in waiting:
        node = tree.nodes[index]
        classes = " ".join(["path"] * (index in on_path) + ["current"] * (index == current))
        content = _content(node, index)
        if node.children:
            yield f'\n<li class="{classes}"><details open><summary>{content}</summary><ul>'
            open_lists.append(len(node.children))
            continue
        yield f'\n<li class="{classes}"><div class="leaf">{content}</div></li>'
        while open_lists:
            open_lists[-1] -= 1
            if open_lists[-1]:
                break
            open_lists.pop()
            yield "</ul></details></li>"
    yield "</ul>"


def _content(node: Node, index: int) -> str:
    if index == 0:
        return '<span class="step">The problem</span>' + _numbers(node, f"value {node.value:.3f}")
    # From red (0) over yellow to green (1).
    badge = f'<span class="score" style="background:hsl({120 * node.score:.0f} 70% 65%)">{node.score:.2f}</span>'
    step = f'<span class="step">{escape(node.text) or "(empty step)"}</span>'
    ends = " · end of the path" if node.terminal else (" · no further steps" if node.closed else "")
    numbers = f"value {node.value:.3f} · log-prob {node.log_prob:.2f} · {node.tokens} tokens"
    return badge + step + _numbers(node, numbers + ends)


def _numbers(node: Node, numbers: str) -> str:
    visits = f"{node.visits} visit{'s' * (node.visits != 1)}"
    return f' <span class="numbers">{numbers} · {visits}</span>'
