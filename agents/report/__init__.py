"""One web page per run: curves, evaluations, frontier, and episodes before and after training.

`python -m agents.report` writes the page. It needs no network.
This package may import configuration, evaluation and tracking, but never a trainer.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Template

from agents.report.data import difference, run_data
from reason_envs.errors import ReasonEnvsError
from reason_envs.resources import read_text

SCRIPTS = ("dom", "chart", "head", "figures", "grid", "tree", "episode", "browser", "page")
"""Parts of the script. Each part uses only the parts before it."""


def write_report(folders: Sequence[Path], output: Path) -> None:
    """Write the HTML page of one run folder, or of several side by side.

    Raises:
        ReasonEnvsError: a folder is not a run folder, or the page cannot be written.
    """
    runs = [run_data(folder) for folder in folders]
    if len({run["name"] for run in runs}) < len(runs):  # such as a/run and b/run
        for run, folder in zip(runs, folders, strict=True):
            run["name"] = "/".join(folder.resolve().parts[-2:])
    for run in runs[1:]:
        ends = [each["recordings"][-1:] for each in (runs[0], run)]
        run["versus"] = difference(*ends[0], *ends[1]) if all(ends) else None
    names = ", ".join(str(run["name"]) for run in runs)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(document(runs, f"Run {names}").encode("utf-8", "replace"))
    except OSError as error:
        raise ReasonEnvsError(f"{output} cannot be written: {error}. Choose another file with --output.") from error


def document(runs: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the page as HTML.

    The page shows all data as text, never as markup. The data cannot end the element that holds it, the script inserts
    it as text nodes, and the content security policy allows only the style and the script of the page.
    """
    style = read_text(__file__, "style.css")
    body = "\n".join(read_text(__file__, f"{name}.js") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{body}\n}})();\n'
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}"
    data = json.dumps({"runs": runs}, ensure_ascii=False, allow_nan=False)
    return Template(read_text(__file__, "page.html"), keep_trailing_newline=True).render(
        title=title,
        policy=policy,
        style=style,
        data=data.replace("<", r"\u003c"),  # the same in JSON, but not markup in HTML
        script=script,
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
