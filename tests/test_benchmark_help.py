"""Every benchmark script answers ``--help`` instead of starting to measure."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for path in (ROOT / "benchmarks").rglob("*.py") if 'if __name__ == "__main__"' in path.read_text("utf-8")
)
READS_OPTIONS = ("ArgumentParser", "options(__doc__", "option_parser", "BENCHMARK", "--help", "parse_pairs")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_read_their_options(script):
    assert any(reader in script.read_text("utf-8") for reader in READS_OPTIONS)


@pytest.mark.parametrize("name", ["throughput/sandbox.py", "documentation_pictures.py"])
def test_scripts_print_their_help(name):
    command = [sys.executable, str(ROOT / "benchmarks" / name), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.strip().endswith(".") or "usage:" in done.stdout
