"""The README says what is true: its code runs, its commands exist, its table of ids is the registry."""

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agents.config.compose import compose_config
from reason_envs import registration
from reason_envs.rewards import registry as rewards
from reason_envs.tasks import registry as families

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FIXTURES = {"data/gsm8k": str(ROOT / "tests" / "data" / "tasks" / "gsm8k")}
"""What stands for the paths that the README invents."""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands():
    """Every line of a shell block, and every command in backticks."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [*lines, *re.findall(r"`(python -m [^`]+)`", README)]


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    """What the README registers is gone after the test."""
    monkeypatch.setattr(registration.ENVIRONMENTS, "parts", dict(registration.ENVIRONMENTS.parts))
    monkeypatch.setattr(families.TASKS, "parts", dict(families.TASKS.parts))
    monkeypatch.setattr(rewards.REWARDS, "parts", dict(rewards.REWARDS.parts))


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[-1][:40])
def test_python_blocks_run(block, capsys):
    for path, fixture in FIXTURES.items():
        block = block.replace(path, fixture)
    if re.search(r"^\S.*\bawait ", block, re.MULTILINE):  # not within a text
        body = textwrap.indent(block, "    ")
        scope = {}
        exec(f"async def main():\n{body}    return result\n", scope)
        assert asyncio.run(scope["main"]()).done
    else:
        exec(block, {})


def test_the_first_python_block_prints_what_it_is_about(capsys):
    exec(blocks("python")[0], {})
    assert "9" in capsys.readouterr().out


def test_every_module_that_is_named_is_a_command():
    modules = {found[1] for command in commands() for found in re.finditer(r"python -m ([\w.]+)", command)}
    assert {"agents.train", "agents.evaluate", "reason_envs.tasks", "reason_envs.rewards"} <= modules
    for module in sorted(modules - {"venv", "pytest", "pip"}):
        if module.startswith(("models", "utils")):
            continue
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        if spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
            assert spec is not None, f"{module} has no __main__"
        source = Path(spec.origin).read_text()
        assert '__name__ == "__main__"' in source or spec.name.endswith("__main__"), module


def overrides(command):
    """The overrides of an ``agents.train`` command, placeholders left out."""
    arguments = re.findall(r"'[^']*'|\S+", command.split("agents.train", 1)[1].split("#")[0])
    return [a.strip("'") for a in arguments if a not in ("key=value", "...", "\\") and not a.startswith("-")]


@pytest.fixture
def template(tmp_path, monkeypatch):
    """The README's template environment as a file of its own, in a folder that Python looks into."""
    (found,) = re.findall(r"^```python title=(\w+\.py)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / found[0]).write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop(found[0].removesuffix(".py"), None)


def test_training_commands_compose(template):
    seen = 0
    for command in commands():
        if "agents.train" in command and "resume=" not in command and "--config" not in command:
            compose_config(overrides(command))
            seen += 1
    assert seen >= 2


def test_options_that_are_named_exist():
    table = README.split("| key | meaning |")[1].split("\n\n")[0]
    names = [name for row in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", row.split("|")[1])]
    config, group = compose_config([]), ""
    for name in names:
        group = name.rpartition(".")[0] or (group if not hasattr(config, name) else "")
        owner = config
        for part in [*filter(None, group.split(".")), name.rpartition(".")[2]]:
            assert hasattr(owner, part), name
            owner = getattr(owner, part)
    for setting in re.findall(r"`((?:algo|policy|engine|env)\.[\w.]+=[\w.]+(?: [\w.]+=[\w.]+)*)`", README):
        compose_config([part for part in setting.split() if "package.module" not in part])


def test_the_table_of_ids_is_the_registry():
    rows = re.findall(r"^\| `(\w+-v\d+)` \| `(\w+)` \|", README, re.MULTILINE)
    assert sorted(rows) == sorted((registration.entry(name).id, name) for name in registration.names())


def test_files_that_are_linked_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_template_is_short_checks_and_trains(template):
    (section,) = re.findall(r"^```python title=.*?^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    check, train = section.splitlines()
    assert len((template / "guess.py").read_text().splitlines()) + 2 < 60
    done = run_in(template, check)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    few = "steps=2 eval_tasks=4 output_dir=run policy.device=cpu algo.tasks_per_step=2"
    done = run_in(template, f"{train} {few}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((template / "run" / "metrics.jsonl").read_text().splitlines()) == 4
    done = run_in(template, "python -m agents.evaluate run=run samples=1 tasks=4")
    assert "4 x 1" in done.stdout, done.stdout + done.stderr


def run_in(folder, command):
    """Run a command of the README in a folder that holds nothing of ours."""
    python, *arguments = command.split()
    assert python == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_commands_work_from_any_folder(tmp_path):
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "reason_envs.tasks", "show", "chain_sum", "max_terms=4"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "problem" in done.stdout
