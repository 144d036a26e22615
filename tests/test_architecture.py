"""The map of the code: imports point one way, nothing goes in a circle, and files and functions stay small."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = {
    "reason_envs": "errors views resources <- validation <- registry <- core batching loop_thread spaces "
    "<- tasks llm sandbox <- reward_models <- rewards <- envs <- vector registration <- adapters "
    "<- serve check command __init__",
    "agents": "trajectory masking distributed registry <- advantages losses policies tracking "
    "<- rollout <- algorithms evaluation <- search config <- reward_model report <- training "
    "<- train evaluate frontier plan __init__",
}
"""Files and folders directly inside each package. Imports point to the left; each place is one room."""
LAYERS = {
    package: {room: number for number, rooms in enumerate(line.split("<-")) for room in rooms.split()}
    for package, line in ORDER.items()
}
FILES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))
FOLDERS = sorted(path.parent for path in FILES if path.name == "__init__.py")


def is_module(package, name):
    return importlib.util.find_spec(f"{package}.{name}") is not None


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(dotted):
    """Return ``(package, file or folder directly inside it)``; ``None`` for modules of others."""
    package, *parts = dotted.split(".")
    return (package, parts[0] if parts else "__init__") if package in LAYERS else None


def imported(path):
    """Yield every module that a file imports, inside functions and for type checkers too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            if node.module in LAYERS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def violations(path, modules):
    package, mine = room(module_name(path))
    for module in modules:
        found = room(module)
        if found is None:
            continue
        if found[0] == "agents" != package:
            yield f"{path.name} imports {module}: environments never import learners"
        elif found[0] == package and found[1] != mine and LAYERS[package][found[1]] >= LAYERS[package][mine]:
            yield f"{path.name} ({mine}) imports {module}: imports point to earlier layers"


def imports_between_rooms(package):
    edges = {name: set() for name in LAYERS[package]}
    for path in FILES:
        if room(module_name(path))[0] != package:
            continue
        mine = room(module_name(path))[1]
        found = {room(module) for module in imported(path)}
        edges[mine] |= {pair[1] for pair in found if pair and pair[0] == package and pair[1] != mine}
    return edges


def imports_between_modules():
    modules = {module_name(path): path for path in FILES}
    edges = {}
    for name, path in modules.items():
        edges[name] = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                edges[name] |= (inner & modules.keys()) or {node.module}
            elif isinstance(node, ast.Import):
                edges[name] |= {alias.name for alias in node.names} & modules.keys()
    return edges


def lines_of_code(function):
    """Count the lines of a function, its docstring included; each other text counts as one line."""
    texts = [n for n in ast.walk(function) if isinstance(n, ast.JoinedStr) and n.end_lineno > n.lineno]
    return function.end_lineno - function.lineno + 1 - sum(text.end_lineno - text.lineno for text in texts)


def cycle(edges):
    """Return one cycle of a graph as a list of its nodes; empty if there is none."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        found = next(filter(None, map(visit, sorted(edges[node]))), [])
        path.pop()
        done.add(node)
        return found

    return next(filter(None, map(visit, sorted(edges))), [])


def longest_chain(edges):
    @cache
    def length(node):
        return 1 + max(map(length, edges[node]), default=0)

    return max(map(length, edges))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_earlier_layers(path):
    assert list(violations(path, imported(path))) == []


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        (
            "reason_envs/tasks/x.py",
            ["agents.algorithms.grpo", "reason_envs.envs.y", "reason_envs", "reason_envs.llm"],
        ),
        ("agents/policies/x.py", ["agents.algorithms.grpo", "agents.rollout", "agents.train", "agents.losses"]),
        ("agents/advantages.py", ["agents.losses", "agents.algorithms.learner"]),
    ],
)
def test_wrong_imports_are_reported(file, wrong):
    assert len(list(violations(ROOT / file, wrong))) == len(wrong)


def test_right_imports_pass():
    assert list(violations(ROOT / "reason_envs/tasks/x.py", ["reason_envs.core", "reason_envs.tasks.y", "numpy"])) == []
    assert list(violations(ROOT / "agents/rollout/x.py", ["agents.policies.base", "reason_envs.check"])) == []


def test_every_file_and_folder_has_a_layer():
    for package, rooms in LAYERS.items():
        there = {room(module_name(path))[1] for path in FILES if room(module_name(path))[0] == package}
        assert there == set(rooms)


def test_agents_is_small_from_above():
    edges = imports_between_rooms("agents")
    assert len(edges.keys() - {"__init__"}) <= 20
    assert sum(map(len, edges.values())) <= 56
    assert longest_chain(edges) <= 8


@pytest.mark.parametrize("package", LAYERS)
def test_rooms_import_each_other_in_no_circle(package):
    assert cycle(imports_between_rooms(package)) == []


def test_modules_import_each_other_in_no_circle():
    assert cycle(imports_between_modules()) == []


def test_a_circle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b"}, "b": set()}) == []
    assert longest_chain({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == 3


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_folder_says_what_lives_there_and_what_it_may_import(folder):
    docstring = ast.get_docstring(parsed(folder / "__init__.py"))
    assert len(docstring.splitlines()) >= 3, f"{folder}: three lines: what lives here, what it may import"
    assert "import" in docstring, f"{folder}: say what it may import"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 300
    functions = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if lines_of_code(f) > 50] == []


def test_the_packages_stay_within_their_size():
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in FILES) < 32_000


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda p: p.name)
def test_what_benchmarks_import_is_there(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in LAYERS:
            module = importlib.import_module(node.module)
            missing = [n.name for n in node.names if not (hasattr(module, n.name) or is_module(node.module, n.name))]
            assert missing == [], f"{path.name}, line {node.lineno}: {node.module} has no such names"
