"""The console script, and the package that `reason-envs new` writes."""

import subprocess
import sys
from contextlib import suppress

import pytest

from reason_envs import command
from reason_envs.command import COMMANDS
from reason_envs.command.new import write_package
from reason_envs.errors import RunError


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reason-envs", *arguments])
    command.main()


def test_command_lists_its_subcommands(monkeypatch, capsys):
    run(monkeypatch)
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    with pytest.raises(SystemExit, match=r"Unknown command 'trian'. Did you mean 'train'?"):
        run(monkeypatch, "trian")


@pytest.mark.parametrize("name", COMMANDS)
def test_subcommands_answer_help(name, monkeypatch, capsys):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4294967296")  # the training command does not restart itself
    with suppress(SystemExit):
        run(monkeypatch, name, "--help")
    assert name == "new" or len(capsys.readouterr().out.splitlines()) > 5


def test_new_package_passes_its_own_tests(tmp_path):
    folder = write_package("number_game", tmp_path)
    assert "reason-envs train env=NumberGame-v0" in (folder / "README.md").read_text()
    assert "$" not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_command_finds_modules_of_the_working_folder(tmp_path):
    write_package("my_env", tmp_path)
    code = "import sys; sys.path.remove(''); from reason_envs.command import main; main()"  # as in a console script
    check = [sys.executable, "-c", code, "check", "my_env.environment:MyEnv-v0"]
    done = subprocess.run(check, cwd=tmp_path / "my_env", capture_output=True, text=True)
    assert "checks that apply passed" in done.stdout, done.stderr


def test_new_package_needs_a_free_name_of_python(tmp_path):
    for name in ("my-env", "MyEnv", "1st"):
        with pytest.raises(RunError, match="cannot name a package: use lower-case letters"):
            write_package(name, tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match="taken exists already"):
        write_package("taken", tmp_path)
