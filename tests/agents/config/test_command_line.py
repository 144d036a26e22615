"""The list of ``--help``: options as YAML with their meanings; errors of arguments."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from agents.algorithms.grpo import GRPOConfig
from agents.config.command_line import list_first, list_options, parse_pairs, warn_of_other_agents
from reason_envs.errors import ReasonEnvsError

ROOT = Path(__file__).resolve().parents[3]


@dataclasses.dataclass
class Inner:
    size: int = 3
    """Size of the part. Not listed."""


@dataclasses.dataclass
class Outer:
    name: str = "x"
    """Name of ``null``,
    e.g. here."""
    separator: str = "\n\n"
    """End of a step."""
    parts: Any = None
    silent: float = 1e-5
    inner: Inner = dataclasses.field(default_factory=Inner)
    """The inner part."""


@dataclasses.dataclass
class Derived(Outer):
    name: str = "y"
    more: list[str] = dataclasses.field(default_factory=lambda: ["a", "b: c"])


LISTED = """\
name: x                             # Name of null, e.g. here.
separator: "\\n\\n"                   # End of a step.
parts: null
silent: 1.0e-05
inner:                              # The inner part.
  size: 3                           # Size of the part."""


def listed(schema, **values):
    return list_options(OmegaConf.structured(schema(**values)))


def test_list_options_is_yaml_with_meanings():
    assert listed(Outer) == LISTED
    assert yaml.safe_load(listed(Derived)) == dataclasses.asdict(Derived())


def test_list_options_inherits_meanings():
    assert "name: y                             # Name of null" in listed(Derived)


def test_list_options_puts_the_meaning_below_a_long_value():
    lines = listed(Outer, name="v" * 50).splitlines()
    assert lines[:2] == ["name: " + "v" * 50, " " * 36 + "# Name of null, e.g. here."]


@pytest.mark.parametrize(("columns", "longest"), [("40", 80), ("80", 80), ("100", 100), ("400", 120)])
def test_list_options_wraps_meanings_to_the_terminal(monkeypatch, columns, longest):
    monkeypatch.setenv("COLUMNS", columns)
    lines = list_options(OmegaConf.structured(GRPOConfig)).splitlines()
    assert longest - 12 < max(map(len, lines)) <= longest


def test_list_first_gives_options_as_they_are_typed():
    options = OmegaConf.structured(Outer(parts={"a": [1, 2]}))
    assert list_first(options, ["inner.size", "other.size", "parts", "name", "missing", "silent"]).splitlines() == [
        "inner.size=3                        # Size of the part.",
        "'parts={a: [1, 2]}'",
        "name=x                              # Name of null, e.g. here.",
        "silent=1.0e-05",
    ]


def test_parse_pairs_prints_help(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_pairs(Outer, ["--help"], "Does it.")
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"Does it.\n\nOptions and defaults:\n{LISTED}\n"


def test_parse_pairs_explains_an_argument_that_the_shell_cut():
    with pytest.raises(ReasonEnvsError, match=r"quote the whole argument once.*'parts=\{coder: \.\.\.\}'"):
        parse_pairs(Outer, ["name=a", "parts={coder:", "tester}"], "")
    with pytest.raises(ReasonEnvsError, match=r"quote the whole argument once.*'parts=\[a, b \.\.\.\]'"):
        parse_pairs(Outer, ["parts=[a, b"], "")
    with pytest.raises(ReasonEnvsError, match="'tester' is not of the form name=value"):
        parse_pairs(Outer, ["name=a", "tester"], "")


def test_parse_pairs_error_names_the_option():
    with pytest.raises(ReasonEnvsError, match="Bad value of silent: Value 'loud'"):
        parse_pairs(Outer, ["silent=loud"], "")
    with pytest.raises(ReasonEnvsError, match="Bad value of parts=}: while parsing"):
        parse_pairs(Outer, ["parts=}"], "")


@pytest.mark.parametrize("record", ["agents/__init__.py,sha256=x,1\n", "x.py,,\nagents/__init__.py,,\n"])
def test_commands_warn_of_another_distribution_that_provides_agents(tmp_path, record):
    information = tmp_path / "openai_agents-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: openai-agents\nVersion: 1.0\n")
    (information / "RECORD").write_text(record)
    code = "from agents.report.__main__ import main; main(['no_such_run'])"
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **paths}
    )
    warning, *_ = done.stderr.splitlines()
    assert warning.startswith("warning: openai-agents also provides a package named agents")
    assert "`pip uninstall openai-agents`" in warning
    assert done.stderr.count("warning:") == 1


def test_commands_do_not_warn_of_this_distribution(capsys):
    warn_of_other_agents.__wrapped__()
    assert capsys.readouterr().err == ""
