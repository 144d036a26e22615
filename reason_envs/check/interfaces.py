"""The checkers of Gymnasium and PettingZoo, applied to the adapters of an environment."""

import contextlib
import io
import warnings
from collections.abc import Iterator

from gymnasium.utils.env_checker import check_env

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.gymnasium import GymnasiumAdapter
from reason_envs.check.play import Subject
from reason_envs.check.results import CheckFailure, NotApplicable
from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError

CYCLES = 30
"""Number of steps of PettingZoo's tests."""
TEXT_ADVICE = ("Observation is not a NumPy array", "space for each agent probably should be")
"""Warnings of PettingZoo about text observations, which are ignored."""


def gymnasium(subject: Subject) -> str:
    """Run ``gymnasium.utils.env_checker.check_env``; a controller acts for several agents."""
    environment = subject.build()
    try:
        single_agent(environment)
    except ReasonEnvsError as error:
        raise NotApplicable(str(error)) from error
    with _strict():
        check_env(GymnasiumAdapter(environment), skip_render_check=True)
    return "gymnasium.utils.env_checker.check_env passes without a warning"


def pettingzoo_parallel(subject: Subject) -> str:
    """Run PettingZoo's ``parallel_api_test`` and ``parallel_seed_test``."""
    _check_several(subject.build())
    from pettingzoo.test import parallel_api_test, parallel_seed_test

    from reason_envs.adapters.pettingzoo import ParallelAdapter

    with _strict():
        parallel_api_test(ParallelAdapter(subject.build()), num_cycles=CYCLES)
        parallel_seed_test(lambda: ParallelAdapter(subject.build()), num_cycles=CYCLES)
    return "parallel_api_test and parallel_seed_test pass"


def pettingzoo_aec(subject: Subject) -> str:
    """Run PettingZoo's ``api_test`` for its agent-environment-cycle API."""
    _check_several(subject.build())
    from pettingzoo.test import api_test

    from reason_envs.adapters.pettingzoo import AECAdapter

    with _strict():
        api_test(AECAdapter(subject.build()), num_cycles=CYCLES)
    return "api_test passes"


def _check_several(environment: Environment) -> None:
    if len(environment.agents) == 1:
        raise NotApplicable("the environment has one agent only")
    if type(environment).observe is Environment.observe:
        raise NotApplicable("observe(agent), which PettingZoo needs for agents that do not act, is not defined")


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Turn warnings of a checker into failures, and hide its output."""
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        yield
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    said = [text for text in said if not any(advice in text for advice in TEXT_ADVICE)]
    if said:
        raise CheckFailure(said[0])
