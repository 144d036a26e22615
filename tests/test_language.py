"""Texts use standard wording. ``python tests/test_language.py PATH ...`` lists the phrases to replace."""

from __future__ import annotations

import ast
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = ("them", "its", "their", "one's", "his", "her", "my", "our", "your")
COMPARED = "longer|more|fewer|less|greater|larger|higher|smaller|worse|better|different"
PHRASES = {
    rf"(?<![Tt]here )\b(is|are|was|were) no (?!{COMPARED})\w+": "is not a ...",
    r"\b(told|tells)\b": "states, reports, shows, gives",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bcur(e|es|ed|ing)\b": "fix",
    r"\bwhoever\b": "the caller, the agent that ..., anyone who ...",
    rf"\bof ({'|'.join(OWN)}) own\b": "its own ..., a separate ...",
    r"\b(becomes?|became|becoming|comes?|came) of\b": "happens to, results from",
    r"\bspeaks? of\b": "describes, mentions",
    r"\bis nothing to\b": "is invalid, cannot be ...",
    r"(?<!-)\bfigures?\b(?! \d)": "metrics, numbers, plot",
}
"""Phrases to avoid, and what to write instead."""
FIELD = {
    r"(Most|Least|Fewest|Longest|Shortest|Largest|Smallest)\b": "begin with Maximum ... or Minimum ...",
    r"(What|Which|Who|Whose|How|Where|When)\b": "begin with a noun: Name of ..., Number of ..., Device that ...",
    r"[a-z]": "begin with a capital letter",
    r"(Of|In|At|For|To|On|By|From|Its|Their|Theirs|Those|Them)\b": "say what the field is, without its name",
    r".{0,14}$": "write a full sentence or noun phrase: what it is, its unit, the meaning of the default",
}
"""Beginnings of a field's docstring to avoid."""
COMMENTED = (".yaml", ".toml")
"""Files of which only comments are prose."""
SCANNED = (".py", ".md", ".js", ".html", ".css", *COMMENTED)
SKIPPED = (ROOT / "tests" / "data", Path(__file__).resolve())
"""Paths that are not checked: quoted documents, and this list."""
TOP = ("agents", "reason_envs", "benchmarks", "conf", "docs", "tests", ".ci")
"""Directories that are checked, beside the files of the root."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Read the prose of a file: its line and text."""
    source = path.read_text()
    if path.suffix == ".py":
        yield from _comments(source)
        yield from _strings(ast.parse(source), only_docstrings=path.is_relative_to(ROOT / "tests"))
    elif path.suffix == ".md":
        fences = re.compile(r"^(```+)[^\n]*\n.*?^\1 *$", re.MULTILINE | re.DOTALL)
        yield 1, fences.sub(lambda block: re.sub(r"^[^#\n]*", "", block[0], flags=re.MULTILINE), source)
    elif path.suffix in COMMENTED:
        yield 1, re.sub(r"^[^#\n]*#?", "", source, flags=re.MULTILINE)
    elif path.suffix == ".html":
        yield 1, source
    else:
        for found in re.finditer(r"""/\*.*?\*/|//[^\n]*|"[^"\n]* [^"\n]*"|`[^`]* [^`]*`""", source, re.DOTALL):
            yield source[: found.start()].count("\n") + 1, found[0].strip("`")


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Read the comments of a program, consecutive lines together."""
    start, lines, last = 0, [], -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1:
            yield start, "\n".join(lines)
            start, lines = token.start[0], []
        lines.append(token.string.lstrip("# "))
        last = token.start[0]
    yield start, "\n".join(lines)


def _strings(tree: ast.AST, *, only_docstrings: bool) -> Iterator[tuple[int, str]]:
    """Read the names of tests and the strings of a program: docstrings, or all that hold more than one word."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Constant(value=str(text)):
                if not only_docstrings and " " in text.strip():
                    yield node.lineno, text
                continue
            case ast.JoinedStr(values=parts):
                if not only_docstrings:
                    yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
                continue
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
                continue
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("test_"):
                yield node.lineno, name.replace("_", " ")
        yield from _strings(node, only_docstrings=only_docstrings)


def field_docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Read the docstrings under the annotated fields of classes."""
    for owner in ast.walk(tree):
        body = owner.body if isinstance(owner, ast.ClassDef) else []
        for entry, below in pairwise(body):
            match entry, below:
                case ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                    yield below.lineno, " ".join(text.split())


def problems(path: Path) -> Iterator[str]:
    """List the phrases of a file to replace: place, phrase and suggestion."""
    where = path.relative_to(ROOT)
    for line, text in texts(path):
        prose = re.sub(r"`+[^`\n]+`+", lambda code: "`" * len(code[0]), text)
        flat = re.sub(r"[ \t]*\n[ \t#*/]*", "\n", prose)
        for phrase, instead in PHRASES.items():
            for found in re.finditer(phrase.replace(" ", r"\s"), flat):
                at = line + flat[: found.start()].count("\n")
                yield f"{where}:{at}: {' '.join(found[0].split())!r}: write {instead}"
    if path.suffix == ".py" and not path.is_relative_to(ROOT / "tests"):
        for line, text in field_docstrings(ast.parse(path.read_text())):
            for start, instead in FIELD.items():
                if re.match(start, text):
                    yield f"{where}:{line}: {textwrap.shorten(text, 40)!r}: {instead}"


def files() -> dict[str, list[Path]]:
    """List the files that are checked by their directory."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*ROOT.glob("*"), *(path for top in TOP for path in (ROOT / top).rglob("*"))]):
        if path.suffix in SCANNED and not any(path.is_relative_to(skipped) for skipped in SKIPPED):
            found.setdefault(str(path.parent.relative_to(ROOT)), []).append(path)
    return found


@pytest.mark.parametrize("directory", sorted(files()))
def test_wording_is_standard(directory):
    found = [problem for path in files()[directory] for problem in problems(path)]
    assert not found, "\n".join(["", *found])


if __name__ == "__main__":
    wanted = [(Path.cwd() / name).resolve() for name in sys.argv[1:]] or [ROOT]
    for paths in files().values():
        for path in paths:
            if any(path.is_relative_to(top) for top in wanted):
                print(*problems(path), sep="\n", end="\n" * any(problems(path)))
