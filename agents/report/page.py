"""The page as one file: style, script and data joined into the template, so that nothing is ever fetched."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError

SCRIPTS = ("dom", "chart", "head", "figures", "grid", "tree", "episode", "browser", "page")
"""Parts of the script, each of which uses the ones before it."""


def write_page(runs: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write the page of some runs (see ``run_data``)."""
    names = ", ".join(str(run["name"]) for run in runs)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(document(runs, f"Run {names}").encode("utf-8", "replace"))
    except OSError as error:
        raise ReasonEnvsError(f"{output} cannot be written: {error}. Choose another place by --output.") from error


def document(runs: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the page.

    Args:
        runs: their data. Whatever stands in it stays text: nothing of it can end the element that holds it, the script
            writes it as text only, and the page's policy runs no script and loads nothing beside its own.
        title: of the document.
    """
    style = _part("style.css")
    body = "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{body}\n}})();\n'
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}"
    places = {
        "title": escape(title),
        "policy": policy,
        "style": style,
        "data": _harmless(json.dumps({"runs": runs}, ensure_ascii=False, allow_nan=False)),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: places[match[1]], _part("page.html"))


def _harmless(text: str) -> str:
    r"""Write ``<`` as ``\u003c``, which JSON reads as the same and HTML not as markup."""
    return text.replace("<", r"\u003c")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return (files("agents.report") / name).read_text(encoding="utf-8")
