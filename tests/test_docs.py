"""The documentation is true: its code runs and prints what the pages show, and its tables and links are complete."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pkgutil
import re
import sys
from pathlib import Path

import pytest
import torch
from doc_pages import PLACEHOLDER, ROOT, Runner, blocks, commands, pages, read_page

from agents.config.compose import compose_config
from agents.config.schema import GROUPS
from agents.registry import ALGORITHMS, POLICIES
from reason_envs import registration
from reason_envs.llm import ENGINES
from reason_envs.rewards.registry import REWARDS
from reason_envs.tasks.registry import TASKS

README = ROOT / "README.md"
PAGES = pages()
REGISTRIES = (registration.ENVIRONMENTS, TASKS, REWARDS, ENGINES, ALGORITHMS, POLICIES)
TEXT = "\n".join(page.read_text() for page in PAGES)


GLOSSARY = set(re.findall(r"`([\w/]+)`(?=[^|]*\|.*\|)", (ROOT / "docs" / "metrics.md").read_text()))
OWNERS = (
    "env=single_turn_math",
    *("env=reason_tree", "env=petting_sudoku", "env=petting_code", "env=planner_solver", "env=workflow"),
    *("algo=at_grpo", "algo=ppo", "engine=vllm", "engine=recorded", "policy=graph"),
)
"""Parts that have options which those of the default run lack."""


FREE = ("env.sandbox.", "env.tasks.", "env.reward.", "env.solver.", "env.engine.")
"""Beginnings of the keys inside mappings."""


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of a page's commands. Modules written there can be imported; they and their parts go later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4294967296")  # the training command does not restart itself
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "parts", dict(registry.parts))
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_parts"]:
        monkeypatch.delitem(sys.modules, name)  # a page writes a package of that name
    before, threads = set(sys.modules), torch.get_num_threads()
    torch.set_num_threads(1)  # outputs are then the same on every machine
    yield tmp_path
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        written = str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path))
        if written or name.partition(".")[0] == "their_parts":  # a namespace has no file
            del sys.modules[name]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_page_runs_and_prints_what_it_shows(page, folder):
    runner = Runner(folder)
    for block in blocks(page):
        runner.run(block)
    assert logged(folder) - GLOSSARY == set(), "metrics that docs/metrics.md does not explain"


def logged(folder):
    """The metrics in all run folders, without the agents that they end in."""
    lines = [line for path in folder.rglob("metrics.jsonl") for line in path.read_text().splitlines()]
    names = {name for line in lines for name in json.loads(line)}
    agents = "tool|planner|reasoner|coder|tester"
    own = {"episode/rewards/brief": "episode/rewards/math"}  # stands for NAME
    return {own.get(name, re.sub(rf"/({agents})$", "", name)) for name in names if not name.startswith("their_")}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_has_no_block_that_is_not_understood(page):
    fences = re.findall(r"^ *```\w.*$", read_page(page), re.MULTILINE)
    outputs = sum(block.output is not None for block in blocks(page))
    assert len(fences) == len(blocks(page)) + outputs


def named_commands():
    """Every command in a shell block or in backticks."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "bash":
                yield from commands(block)
    for text in re.findall(r"`(python -m [^`]+)`", TEXT):
        yield re.findall(r"'[^']*'|\S+", text)


def test_named_modules_are_commands():
    modules = {words[2] for words in named_commands() if words[:2] == ["python", "-m"]}
    assert {"agents.train", "agents.evaluate", "agents.frontier", "agents.report", "reason_envs.check"} <= modules
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
        source = Path(spec.origin).read_text()
        assert '__name__ == "__main__"' in source or spec.name.endswith("__main__"), module


def test_named_scripts_exist():
    scripts = {words[1] for words in named_commands() if words[0] == "python" and words[1].endswith(".py")}
    scripts |= set(re.findall(r"`python (benchmarks/[\w/]+\.py)", TEXT))
    assert scripts
    assert [name for name in scripts if not (ROOT / name).exists()] == []


def test_training_commands_in_the_text_compose():
    seen = 0
    for text in re.findall(r"`python -m agents\.train ([^`]+)`", TEXT):
        arguments = [a.strip("'") for a in re.findall(r"\S*'[^']*'|\S+", text) if a != "--help"]
        if not any(re.search(PLACEHOLDER, a) for a in arguments):
            compose_config(arguments)
            seen += 1
    assert seen > 5


def test_settings_in_the_text_exist():
    settings = re.findall(r"`((?:algo|policy|engine|env|reward_model)(?:\.[\w.]+)?=[^`]+)`", TEXT)
    settings = [setting for setting in settings if not re.search(r"=[\w.]+:", setting)]  # parts of other modules
    pairs = [pair.partition("=")[::2] for setting in settings for pair in re.findall(r"[a-z][\w.]*=[^ ]*", setting)]
    keys = {
        key
        for part in OWNERS
        for key in keys_of(compose_config([part, *(["engine.path=r"] if "recorded" in part else [])]))
    }
    ours = re.sub(r"^\| .+? \| ", "", TEXT, flags=re.MULTILINE)  # the first column can have the names of a guide
    named = set(re.findall(r"`((?:algo|policy|engine|env|reward_model|placement)\.[\w.]*\w)`", ours))
    assert {key for key in named - keys if not key.startswith(FREE)} == set()
    names = {(group, name) for group, (names, _) in GROUPS.items() for name in names()}
    assert len(pairs) > 60
    for key, value in pairs:
        if key in GROUPS:
            assert (key, value) in names or not value or re.search(PLACEHOLDER, value), f"{key}={value}"
        elif key.partition(".")[0] in GROUPS and not key.startswith(FREE):
            assert key in keys, key


def keys_of(config, prefix=""):
    """Every key of a configuration, as the command line writes it."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from keys_of(value, f"{prefix}{field.name}.")


def test_table_of_ids_is_the_registry():
    table = read_page(ROOT / "docs" / "environments" / "index.md")
    rows = re.findall(r"^\| \[`(\w+-v\d+)`\]\((\w+)\.md\) \| `(\w+)` \|", table, re.MULTILINE)
    assert sorted((ident, name) for ident, _, name in rows) == sorted(
        (registration.ENVIRONMENTS[name].id, name) for name in registration.ENVIRONMENTS.names()
    )
    for ident, page, name in rows:
        text = read_page(ROOT / "docs" / "environments" / f"{page}.md")
        assert text.startswith(f"# {ident}\n")
        assert f"env={name}" in text
        for part in ("Example", "Actions", "Observation", "Reward", "End", "Options", "Training"):
            assert re.search(rf"^(##+|\|) .*{part}", text, re.MULTILINE | re.IGNORECASE), f"{page}.md lacks {part}"
    assert all(ident in README.read_text() for ident, _, _ in rows)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_point_to_files(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_pictures_are_small():
    assert all(path.stat().st_size < 300_000 for path in (ROOT / "docs" / "assets").iterdir())


def test_reference_names_what_exists():
    names = re.findall(r"^::: (\S+)$", TEXT, re.MULTILINE)
    assert len(names) > 50
    for name in names:
        if name.rpartition(".")[2].islower():
            assert importlib.util.find_spec(name), name
        else:
            pkgutil.resolve_name(name)
