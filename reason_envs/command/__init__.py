"""The command ``reason-envs``: one name for every command of the library, and the package that it writes.

It imports a command when it runs it.
"""

import runpy
import sys

from reason_envs.errors import unknown_name
from reason_envs.resources import read_table

COMMANDS = read_table(__file__, "commands.yaml")
"""Module and meaning of each subcommand."""


def main() -> None:
    """Run the module of the subcommand with the other arguments."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        rows = "\n".join(f"  {command:<10}{meaning}" for command, (_, meaning) in COMMANDS.items())
        print(f"usage: reason-envs COMMAND [ARGUMENT ...]\n\n{rows}\n\nreason-envs COMMAND --help shows its options.")
        return
    if name not in COMMANDS:
        raise SystemExit(f"error: {unknown_name('command', name, COMMANDS)}")
    sys.path.append("")  # module:name finds modules of the working folder, as with `python -m`
    sys.argv = ["-m", *arguments]  # as `python -m` does; the module then sees its own path
    runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)
