"""Web page of a tree: a single file without scripts or network, whose nodes open and close by click or tap."""

from collections.abc import Iterator
from html import escape

from reason_envs.envs.reason_tree.tree import Node, Tree

STYLE = """
:root { color-scheme: light dark; --line: #8886; --path: #d9480f; --faint: #777 }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.2rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .5rem }
p { color: var(--faint); margin: .2rem 0 1rem; font-size: .9rem }
.tree { overflow-x: auto; padding-bottom: 1rem }
ul { list-style: none; margin: 0; padding: 0 0 0 .7rem; border-left: 2px solid var(--line) }
.tree > ul { border: 0; padding: 0 }
ul:has(> .path) { border-color: var(--path) }
summary, .leaf { display: block; padding: .3rem .4rem; border-radius: .4rem; min-width: 15rem }
summary { cursor: pointer }
summary::before { content: "▸ "; color: var(--faint) }
details[open] > summary::before { content: "▾ " }
.leaf::before { content: "· "; color: var(--faint) }
.step { white-space: pre-wrap; overflow-wrap: anywhere }
.path > details > summary .step, .path > .leaf .step { font-weight: 700 }
.current > details > summary, .current > .leaf { outline: 2px solid var(--path); outline-offset: -2px }
.score { display: inline-block; min-width: 2.6em; text-align: center; border-radius: .3rem; color: #000 }
.score { margin: 0 .3em }
.numbers { color: var(--faint); font-size: .8rem; margin-left: .5em }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy of the page: even unescaped text could not run or load anything."""


def write_page(tree: Tree, current: int) -> str:
    """Return a tree and its current node as an HTML document."""
    # Some decoders leave lone surrogates, which cannot be written to a file.
    return "".join(_document(tree, current)).encode("utf-8", "replace").decode()


def _document(tree: Tree, current: int) -> Iterator[str]:
    question = escape(tree.question)
    yield (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n<title>{question[:80]}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>{STYLE}</style></head>\n'
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
