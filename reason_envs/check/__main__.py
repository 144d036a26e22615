"""Check an environment: ``python -m reason_envs.check my_module:MyEnv-v0 [key=value ...]``."""

import argparse
import sys
from collections.abc import Sequence

from reason_envs.check import check_environment, verdict
from reason_envs.errors import ReasonEnvsError
from reason_envs.registration import ENVIRONMENTS
from reason_envs.registry import parse_options
from reason_envs.validation import above


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the results. Returns 0 if no check failed, 1 if one failed, 2 if the command is invalid."""
    given = _parser().parse_args(arguments)
    try:
        options = parse_options(given.options)
        ENVIRONMENTS.configure(given.environment, options)
        above(given, timeout=0)
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
        description="Run the checks of Gymnasium, PettingZoo and this library on an environment.",
    )
    parser.add_argument("environment", help="id or short name; module:Id-v0 first imports the module that registers it")
    parser.add_argument("options", nargs="*", metavar="key=value", help="options of the environment")
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes (default 0)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="maximum duration of an episode in seconds (default 60)"
    )
    parser.add_argument(
        "--response",
        action="append",
        default=[],
        metavar="TEXT",
        help="a text that a good player might write, used besides the built-in texts (repeatable)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
