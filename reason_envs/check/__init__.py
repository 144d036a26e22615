"""Checks of an environment: the rules of `reason_envs.core` and the tests of Gymnasium and PettingZoo.

``python -m reason_envs.check my_module:MyEnv-v0`` prints the results of `check_environment`.
May import the adapters and everything that they import; never a specific environment.
"""

import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reason_envs.check import copies, episodes, interfaces, play, texts
from reason_envs.check.play import Subject
from reason_envs.check.results import CheckFailure, CheckResult, NotApplicable, verdict
from reason_envs.core import Environment, ResultError
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.registration import ENVIRONMENTS, make_environment
from reason_envs.resources import read_table
from reason_envs.reward_models.base import make_reward_model
from reason_envs.validation import mounted

__all__ = ["CheckResult", "check_environment", "verdict"]

OURS = Path(__file__).resolve().parents[1]
"""Folder of this package."""

FIXES: dict[str, str] = read_table(__file__, "fixes.yaml")
_FUNCTIONS: tuple[Callable[[Subject], str], ...] = (
    *(play.playing, interfaces.gymnasium, interfaces.pettingzoo_parallel, interfaces.pettingzoo_aec),
    *(episodes.spaces, episodes.determinism, episodes.clocks, episodes.rewards, episodes.ends, episodes.wrong_actions),
    *(episodes.turns, episodes.tasks, texts.messages, texts.round_trip, texts.garbage, copies.isolation),
    *(copies.rekeying, copies.batching),
)
CHECKS = {name: (check, fix) for check, (name, fix) in zip(_FUNCTIONS, FIXES.items(), strict=True)}
"""Function and general fix of each check. If the first one fails, the others are not run."""
MODELS: dict[str, Any] = {"engine": make_engine, "solver": make_engine, "reward_model": make_reward_model}
"""Options that choose a model, and the functions that build it."""


def check_environment(
    environment: str | Callable[[], Environment],
    *,
    seed: int = 0,
    responses: Sequence[str] = (),
    timeout: float = 60.0,
    **options: Any,
) -> list[CheckResult]:
    """Check that an environment follows the rules.

    Args:
        environment: id or short name, ``"module:Id-v0"``, or a function that returns a new environment.
        seed: seed of the episodes that are played.
        responses: texts that a good player might write, for environments with text actions. They must parse to valid
            actions. Every check is repeated with them in place of the built-in texts.
        timeout: maximum duration of an episode in seconds.
        options: options of the environment if it is given by name.

    Returns:
        One result per check, in the order of ``CHECKS``. A single failure if the environment cannot be built or played.
    """
    try:
        build, models = _builder(environment, options) if isinstance(environment, str) else (environment, {})
        built = build()
        built.close()
    except Exception as error:  # noqa: BLE001  (any error is a result)
        advice = "" if isinstance(error, ReasonEnvsError) else "Its constructor must accept these options."
        return [CheckResult("construction", "FAIL", _what(error), advice)]
    config = ENVIRONMENTS[environment].config_class() if isinstance(environment, str) else built.config
    known = tuple(field.name for field in fields(config)) if is_dataclass(config) else None
    subjects = [Subject(build, seed, options=known, timeout=timeout)]
    if responses:
        subjects.append(replace(subjects[0], responses=tuple(responses)))
    try:
        return _all(subjects)
    finally:
        for model in models.values():
            model.close()


def _builder(name: str, options: dict[str, Any]) -> tuple[Callable[[], Environment], dict[str, Any]]:
    """Return a function that builds a named environment, and the models of its options, which are built once."""
    config, models = ENVIRONMENTS.configure(name, options), {}
    for option, make in MODELS.items():
        spec = getattr(config, option, None)
        # An environment with an option `device` places its models itself.
        if isinstance(spec, str | Mapping) and getattr(config, "device", None) is None:
            with mounted(option):
                models[option] = make(spec)
    return partial(make_environment, name, **{**options, **models}), models


def _all(subjects: Sequence[Subject]) -> list[CheckResult]:
    results: list[CheckResult] = []
    for name, (check, advice) in CHECKS.items():
        result = _merged([_checked(name, check, advice, subject) for subject in subjects])
        if result.status == "FAIL" and not results:
            return [replace(result, detail=f"{result.detail.rstrip('.')}. The other checks were not run.")]
        results.append(result)
    return results


def _merged(results: Sequence[CheckResult]) -> CheckResult:
    """Combine the results of a check without and with the given responses: the first failure, or all details."""
    failed, passed = ([r for r in results if r.status == status] for status in ("FAIL", "pass"))
    shown = failed[:1] or passed or list(results[:1])
    return replace(shown[0], detail="; with the given responses: ".join(dict.fromkeys(r.detail for r in shown)))


def _checked(name: str, check: Callable[[Subject], str], advice: str, subject: Subject) -> CheckResult:
    try:
        return CheckResult(name, "pass", check(subject))
    except NotApplicable as reason:
        return CheckResult(name, "n/a", str(reason))
    except CheckFailure as failure:
        return CheckResult(name, "FAIL", failure.detail, failure.fix or advice)
    except ResultError as error:
        return CheckResult(name, "FAIL", error.problem, error.fix)
    except Exception as error:  # noqa: BLE001  (any error is a result)
        return CheckResult(name, "FAIL", _what(error), advice)


def _what(error: Exception) -> str:
    """Describe an error and the line that raised it: the last line of the user's code, if there is one."""
    if isinstance(error, ReasonEnvsError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    others = [OURS, *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platlib", "purelib"))]
    theirs = [f for f in frames if not any(Path(f.filename).is_relative_to(folder) for folder in others)]
    place = (theirs or frames)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
