"""Check an environment: ``python -m reason_envs.check my_module:MyEnv-v0 [key=value ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from reason_envs.check import check_environment, verdict
from reason_envs.errors import ReasonEnvsError
from reason_envs.registration import ENVIRONMENTS
from reason_envs.registry import parse_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict; return 0 if nothing failed, 1 if something did, 2 for a command that makes no sense."""
    given = _parser().parse_args(arguments)
    try:
        options = parse_options(given.options)
        ENVIRONMENTS.configure(given.environment, options)
        if given.timeout <= 0:
            raise ReasonEnvsError(f"--timeout {given.timeout:g} must be more than 0 seconds.")
    except ReasonEnvsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = check_environment(
        given.environment, seed=given.seed, responses=given.response, timeout=given.timeout, **options
    )
    print(verdict(given.environment, results))
    return int(any(result.status == "FAIL" for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reason_envs.check",
        description="Run Gymnasium's, PettingZoo's and this library's checks on an environment.",
    )
    parser.add_argument("environment", help="id or short name; module:Id-v0 imports the module that registers it first")
    parser.add_argument("options", nargs="*", metavar="key=value", help="options of the environment")
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes (default 0)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that an episode may take (default 60)")
    parser.add_argument(
        "--response",
        action="append",
        default=[],
        metavar="TEXT",
        help="what a good player might write, tried besides the checker's own texts (repeatable)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
