"""Web page of a tree: a single file without scripts or network, whose nodes open and close by click or tap."""

from pathlib import Path

from jinja2 import Environment

from reason_envs.envs.reason_tree.tree import Tree

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy of the page: even unescaped text could not run or load anything."""
_HERE = Path(__file__)


def write_page(tree: Tree, current: int) -> str:
    """Return a tree and its current node as an HTML document."""
    page = Environment(autoescape=True).from_string(_HERE.with_suffix(".html").read_text(encoding="utf-8"))
    style = _HERE.with_suffix(".css").read_text(encoding="utf-8")
    path = {0, *tree.path(current)}
    text = page.render(tree=tree, current=current, path=path, style=style, policy=POLICY)
    # Some decoders leave lone surrogates, which cannot be written to a file.
    return text.encode("utf-8", "replace").decode() + "\n"
