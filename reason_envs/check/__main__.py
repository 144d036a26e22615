"""Check an environment: ``python -m reason_envs.check my_module:MyEnv-v0 [key=value ...]``."""

import sys
from collections.abc import Sequence

from reason_envs.check import check_environment, verdict
from reason_envs.errors import ReasonEnvsError
from reason_envs.registration import ENVIRONMENTS
from reason_envs.registry import command_parser, parse_options
from reason_envs.validation import above


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the results. Returns 0 if no check failed, 1 if one failed, 2 if the command is invalid."""
    given = command_parser(__file__, "command.yaml").parse_args(arguments)
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


if __name__ == "__main__":
    sys.exit(main())
