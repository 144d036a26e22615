"""The code blocks of a documentation page, and how a test runs them.

A page is read from top to bottom. Its Python blocks share one namespace, its commands share one working folder, and a
block with a file name as its title is written there. A block titled ``Output`` says what the block before it prints;
``...`` stands for text that varies, as in doctest. A long command is shortened (`SHORT`), and then the numbers of its
output are not compared. A comment above a block changes what happens to it: ``<!-- test: options -->`` validates the
options of its commands without running them, and ``<!-- test: skip, REASON -->`` leaves it out.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import io
import json
import re
import runpy
import shlex
import sys
import textwrap
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from agents.config.compose import compose_config

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"(?:<!-- test: (?P<mode>\w+)[^\n]*-->\n\s*)?"
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"\n]+)\")?\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
SNIPPET = re.compile(r"^( *)--8<-- \"(.+)\"$", re.MULTILINE)
PLACEHOLDER = r"\b(NAME|FILE|FOLDER|MODEL|[MDFPR]|TEXT|GAME)\b|\.\.\.|module:"
"""Words of a command that stand for something else."""
NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e-?\d+)?")
PARSERS = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
FIXTURES = {
    "data/gsm8k": ROOT / "tests" / "data" / "tasks" / "gsm8k",
    "models/mine": ROOT / "reason_envs" / "llm" / "embedded" / "base",
}
"""What stands for the paths that pages invent."""
SHORT = {
    "agents.train": {"steps": "1", "eval_tasks": "2", "save_every": "0"},
    "agents.evaluate": {"tasks": "2", "samples": "1"},
    "agents.frontier": {"tasks": "2"},
    "agents.reward_model": {
        "problems": "12",
        "validation_problems": "6",
        "test_problems": "6",
        "solutions": "2",
        "rollouts": "1",
        "epochs": "1",
    },
}
"""Options of each command that learns or measures, instead of what the page says."""
SMALL_BATCHES = {"algo.tasks_per_step": "2", "algo.samples_per_task": "2", "algo.minibatch_size": "null"}
FEW_TASKS = {"env.tasks.size": "8"}
LARGE = re.compile(r"env\.tasks[=.](?!\{name: \w+[,}])|.*\bpath:|env=\w+:|\+experiment")
"""Arguments after which the number of tasks cannot be set."""
SMALL_SB3_BATCHES = {"algo.n_envs": "2", "algo.n_steps": "8", "algo.batch_size": "8", "algo.n_epochs": "1"}


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    line: int
    language: str
    title: str | None
    mode: str | None
    code: str
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return every page: the README and the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_page(page: Path) -> str:
    """Return a page's text with the snippets that it includes."""

    def included(match: re.Match[str]) -> str:
        return textwrap.indent((ROOT / match[2]).read_text().rstrip("\n"), match[1])

    return SNIPPET.sub(included, page.read_text())


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, outputs joined to the blocks that print them."""
    text = read_page(page)
    found: list[Block] = []
    for match in FENCE.finditer(text):
        code = textwrap.dedent(match["code"])
        line = text[: match.start("language")].count("\n") + 1
        if match["title"] == "Output":
            before = found.pop()
            assert before.output is None, f"{before} has two outputs"
            found.append(Block(page, before.line, before.language, before.title, before.mode, before.code, code))
        else:
            found.append(Block(page, line, match["language"], match["title"], match["mode"], code))
    return found


def commands(block: Block) -> list[list[str]]:
    """Return the words of each command of a shell block."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


class Runner:
    """Runs the blocks of one page, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path, fixture in FIXTURES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(fixture)
        self.scope: dict[str, Any] = {"__name__": "__page__"}

    def run(self, block: Block) -> None:
        """Run a block, unless it is left out, and compare what it prints.

        Raises:
            Mismatch: it prints something else.
        """
        if block.mode == "skip":
            return
        shortened = False
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if block.title is not None:
                (self.folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / block.title).write_text(block.code)
            if block.language in PARSERS:
                PARSERS[block.language](block.code)
            elif block.language == "python" and block.title is None:
                self._python(block)
            elif block.language == "bash":
                shortened = sum(self._command(words, block) for words in commands(block)) > 0
        if not shortened or block.output is not None:
            compare(block, printed.getvalue(), shortened)

    def _python(self, block: Block) -> None:
        tree = ast.parse("\n" * (block.line) + block.code, str(block.page))
        code = compile(tree, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & 0x80:  # a coroutine
            asyncio.run(eval(code, self.scope))
        else:
            exec(code, self.scope)

    def _command(self, words: list[str], block: Block) -> bool:
        """Run a command, or validate its options; return whether it was shortened."""
        assert words[:2] == ["python", "-m"], f"{shlex.join(words)} cannot be run here: mark its block with a reason."
        module, *arguments = words[2:]
        if block.mode == "options":
            assert module == "agents.train", f"only the options of agents.train are validated, not those of {module}"
            compose_config(arguments)
            return False
        if "--help" not in arguments:
            arguments = shorten(module, arguments, evaluate=block.output is not None)
        with mock.patch.object(sys, "argv", [module, *arguments]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                if end.code:
                    raise AssertionError(f"{shlex.join(words)} ended with {end.code}") from end
        return module in SHORT


def shorten(module: str, arguments: list[str], *, evaluate: bool) -> list[str]:
    """Replace the options that make a command long.

    Args:
        module: the command's.
        arguments: its options.
        evaluate: whether a training also evaluates, as its output then shows.
    """
    few = dict(SHORT.get(module, {}))
    if module == "agents.train":
        if any(argument.startswith("resume=") for argument in arguments):
            few = {"steps": "2"}
        else:
            few |= SMALL_SB3_BATCHES if any(a.startswith("algo=sb3") for a in arguments) else SMALL_BATCHES
            few |= {} if evaluate else {"eval_every": "0"}
            few |= {} if any(LARGE.match(a) for a in arguments) else FEW_TASKS
    kept = [a for a in arguments if a.partition("=")[0] not in few]
    return [*kept, *(f"{name}={value}" for name, value in few.items())]


class Mismatch(AssertionError):
    """A block does not print what its page shows."""

    def __init__(self, block: Block, printed: str) -> None:
        super().__init__(f"{block} prints\n{printed}\nand the page shows\n{block.output}")
        self.printed = printed


def compare(block: Block, printed: str, shortened: bool) -> None:
    """Compare what a block printed with the output that the page shows; numbers only if it was not shortened.

    Raises:
        Mismatch: they differ, or the page shows none.
    """
    printed = "\n".join(line.rstrip() for line in printed.splitlines()) + "\n" if printed.strip() else ""
    shown, real = block.output or "", printed
    if shortened:
        shown, real = (NUMBER.sub("#", text) for text in (shown, real))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(shown, real, flags):
        raise Mismatch(block, printed)


def write_outputs(page: Path, folder: Path) -> None:
    """Run a page and write what its blocks print into it, where that differs from what it shows.

    ``python tests/toys/doc_pages.py docs/PAGE.md`` calls this.
    """
    runner = Runner(folder)
    for block in blocks(page):
        try:
            runner.run(block)
        except Mismatch as mismatch:
            text, head = page.read_text(), '```\n\n```text title="Output"\n'
            position = text.index(block.code) + len(block.code)
            assert text[position:].startswith(head), f"{block} has no block of outputs"
            start = position + len(head)
            end = text.index("```", start)
            page.write_text(text[:start] + mismatch.printed + text[end:])


if __name__ == "__main__":
    import os
    import tempfile

    os.environ["MALLOC_MMAP_THRESHOLD_"] = "4294967296"  # the training command does not restart itself
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            sys.path.insert(0, folder)
            write_outputs(ROOT / name, Path(folder))
            sys.path.remove(folder)
