"""What an environment promises, as checks that users run on theirs.

``python -m reason_envs.check my_module:MyEnv-v0`` prints the verdict of `check_environment`.
May import the adapters and everything below them; never a single environment.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reason_envs.check import batching, episodes, forks, interfaces, playable, texts
from reason_envs.check.play import Subject
from reason_envs.check.results import CheckFailure, CheckResult, NotApplicable, verdict
from reason_envs.core import Environment, ResultError
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.registration import ENVIRONMENTS, make_environment
from reason_envs.reward_models.base import make_reward_model

__all__ = ["CheckResult", "check_environment", "verdict"]

OURS = Path(__file__).resolve().parents[1]
"""The folder of this package."""

CHECKS: dict[str, tuple[Callable[[Subject], str], str]] = {
    "play": (
        playable.playing,
        "Write `async def reset(self, *, seed=None, options=None)` and `async def step(self, actions)`; neither they "
        "nor parse_action may raise, whatever seed, actions or text they get.",
    ),
    "gymnasium": (interfaces.gymnasium, "Do what Gymnasium's checker asks."),
    "pettingzoo parallel": (interfaces.pettingzoo_parallel, "Do what PettingZoo's test asks."),
    "pettingzoo aec": (interfaces.pettingzoo_aec, "Do what PettingZoo's test asks."),
    "spaces": (
        episodes.spaces,
        "Return observations that observation_space(agent) contains, of agents that stand in `agents`.",
    ),
    "determinism": (
        episodes.determinism,
        "Draw every random number with a seed from derive_seed(self.state.seed, agent, turn, call), and let reset "
        "build the whole state anew.",
    ),
    "clocks": (episodes.clocks, "Leave times out of info: it is equal for equal seeds and actions."),
    "rewards": (episodes.rewards, "Pay finite numbers, to agents that have decided."),
    "ends": (
        episodes.ends,
        "When the episode is over return no observations, and terminated or truncated for every agent.",
    ),
    "wrong actions": (
        episodes.wrong_actions,
        "Let step treat what action_space does not contain as an invalid action, with info['valid_action'] False, and "
        "never raise.",
    ),
    "turns": (episodes.turns, "Let step read the actions of the agents that were to act, and of nobody else."),
    "tasks": (
        episodes.tasks,
        "Give the configuration the fields `tasks` and `split`, let reset take options['task'] instead of the seed's "
        "own, and name it in info['task_id'].",
    ),
    "messages": (
        texts.messages,
        "Let render_messages return [{'role': 'user', 'content': text}], after a system message if there is one.",
    ),
    "round trip": (texts.round_trip, "Let parse_action read what a model is asked to write, and what it returned."),
    "garbage": (
        texts.garbage,
        "Let parse_action return something outside the action space, or a text that step calls invalid, and put "
        "valid_action into info.",
    ),
    "fork isolation": (
        forks.isolation,
        "Keep everything that changes during an episode in self.state, a dataclass that fork copies, and draw by "
        "place, not by order.",
    ),
    "fork re-keying": (
        forks.rekeying,
        "Keep all that changes in self.state, which fork copies, and draw with seeds derived from self.state.seed.",
    ),
    "batching": (
        batching.batching,
        "Await the shared engine once for each request, without a lock, a thread or an engine for each environment.",
    ),
}
"""Every check by name, and what to do where it fails. Without the first there is nothing for the others to look at."""


MODELS: dict[str, Callable[..., Any]] = {
    "engine": make_engine,
    "solver": make_engine,
    "reward_model": make_reward_model,
}
"""Options that name a model, and what makes it."""


def check_environment(
    environment: str | Callable[[], Environment],
    *,
    seed: int = 0,
    responses: Sequence[str] = (),
    timeout: float = 60.0,
    **options: Any,
) -> list[CheckResult]:
    """Check what an environment promises.

    Args:
        environment: id or short name, ``"module:Id-v0"``, or a function that makes a new one at every call.
        seed: of the episodes that are played.
        responses: texts that a good player might write, where actions are text: all checks are made once more with
            them in place of the checker's own. They must parse to actions.
        timeout: seconds that an episode may take.
        options: of the environment, where it is a name.

    Returns:
        One result a check, in the order of ``CHECKS``; a single failure where the environment cannot be made or played.
    """
    try:
        build, models = _builder(environment, options) if isinstance(environment, str) else (environment, {})
        built = build()
        built.close()
    except Exception as error:  # noqa: BLE001  (it is the verdict)
        advice = "" if isinstance(error, ReasonEnvsError) else "Make it constructible with these options."
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
    """Return what makes a named environment, and the models its options name, made once and shared by all of them."""
    config, models = ENVIRONMENTS.configure(name, options), {}
    for option, make in MODELS.items():
        spec = getattr(config, option, None)
        # With a `device` of its own the environment places its models itself.
        if isinstance(spec, str | Mapping) and getattr(config, "device", None) is None:
            models[option] = make(spec)
    return partial(make_environment, name, **{**options, **models}), models


def _all(subjects: Sequence[Subject]) -> list[CheckResult]:
    results: list[CheckResult] = []
    for name, (check, advice) in CHECKS.items():
        result = _merged([_checked(name, check, advice, subject) for subject in subjects])
        if result.status == "FAIL" and not results:
            return [replace(result, detail=f"{result.detail.rstrip('.')}. Nothing else was checked.")]
        results.append(result)
    return results


def _merged(results: Sequence[CheckResult]) -> CheckResult:
    """One result of those of a check without and with the given responses: the first failure, or all that was seen."""
    failed, passed = ([r for r in results if r.status == status] for status in ("FAIL", "pass"))
    told = failed[:1] or passed or list(results[:1])
    return replace(told[0], detail="; with the given responses: ".join(dict.fromkeys(r.detail for r in told)))


def _checked(name: str, check: Callable[[Subject], str], advice: str, subject: Subject) -> CheckResult:
    try:
        return CheckResult(name, "pass", check(subject))
    except NotApplicable as reason:
        return CheckResult(name, "n/a", str(reason))
    except CheckFailure as failure:
        return CheckResult(name, "FAIL", failure.detail, failure.fix or advice)
    except ResultError as error:
        return CheckResult(name, "FAIL", error.problem, error.fix)
    except Exception as error:  # noqa: BLE001  (whatever it raises is the verdict)
        return CheckResult(name, "FAIL", _what(error), advice)


def _what(error: Exception) -> str:
    """Name an error and the line that raised it: the last one of theirs, where it passed through any."""
    if isinstance(error, ReasonEnvsError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not Path(frame.filename).is_relative_to(OURS) and _is_own(frame.filename)]
    place = (theirs or frames)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


def _is_own(file: str) -> bool:
    """Whether a file is no installed package's, nor Python's."""
    return not any(Path(file).is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "platlib", "purelib"))
