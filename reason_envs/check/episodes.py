"""Checks of single episodes: repeatable, well formed, safe against wrong actions, free of clocks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Discrete, Text

from reason_envs.check.play import EPISODES, INVALID, Subject, compare, difference
from reason_envs.check.results import CheckFailure, NotApplicable
from reason_envs.core import AgentId, Environment, StepResult, checked_reset, checked_step
from reason_envs.tasks import TaskSet

DAY = 86_400.0


def spaces(subject: Subject) -> str:
    """Look at agents, spaces and first observations."""
    environment = subject.build()
    for agent in environment.agents:
        for kind in ("observation_space", "action_space"):
            if getattr(environment, kind)(agent) is not getattr(environment, kind)(agent):
                raise CheckFailure(
                    f"{kind}({agent!r}) returns another object at every call.",
                    "Make the space once, in __init__, and return it.",
                )
    seen = 0
    for results in _plays(subject):
        for step, result in enumerate(results):
            for agent, observation in {**result.observations, **result.final_observations}.items():
                _check_agent(environment, agent, f"Observations of step {step}")
                if not environment.observation_space(agent).contains(observation):
                    raise CheckFailure(
                        f"At step {step} {agent!r} sees {str(observation)[:60]!r}, which is not in its observation "
                        f"space {environment.observation_space(agent)}."
                    )
                seen += 1
    return f"{len(environment.agents)} agent(s), {seen} observations in their spaces"


def determinism(subject: Subject) -> str:
    """Play the same episodes on two environments, and again on one of them."""
    environment, other, count = subject.build(), subject.build(), 0
    for example in subject.examples:
        first = example.play(environment)
        for again, what in ((other, "of two environments"), (environment, "before and after another episode")):
            found = compare(first, example.play(again))
            if found is not None:
                raise CheckFailure(f"Same seed, same actions, {what}, at {found}.")
        count += len(first)
    return f"same seeds and actions, same {count} results, twice over"


def clocks(subject: Subject) -> str:
    """Look for times in info."""
    for results in _plays(subject):
        for result in results:
            for name, value in _leaves(result.info):
                if _is_time(value):
                    raise CheckFailure(f"info{name} is {value!r}, which is a time.")
    return "no time in info"


def rewards(subject: Subject) -> str:
    """Look at what is paid, and to whom."""
    environment, values = subject.build(), []
    for results in _plays(subject):
        for step, result in enumerate(results):
            for agent, reward in result.rewards.items():
                _check_agent(environment, agent, f"Rewards of step {step}")
                number = isinstance(reward, int | float | np.number) and not isinstance(reward, bool)
                if not number or not math.isfinite(float(reward)):
                    raise CheckFailure(f"Step {step} pays {agent!r} {reward!r}, which is no finite number.")
                if step == 0 and reward:
                    raise CheckFailure(f"reset pays {agent!r} {reward!r}, and there is no decision to pay for yet.")
                values.append(float(reward))
        _check_paid(results)
    if not values:
        raise NotApplicable(
            f"no reward was named, but no episode in which anybody acted ended in {subject.max_steps} steps"
        )
    return f"{len(values)} finite rewards from {min(values, default=0):g} to {max(values, default=0):g}"


def ends(subject: Subject) -> str:
    """Look at who goes on and whose episode has ended, and how."""
    environment, over = subject.build(), 0
    for results in _plays(subject):
        for step, result in enumerate(results):
            _check_flags(environment, step, result)
        for before, after in pairwise(results):
            back = {a for a in _ended(before) if a in after.observations}
            if back:
                raise CheckFailure(f"{sorted(back)} had ended and is to act again.")
        over += results[-1].done
    if not over:
        return f"no episode ended within {subject.max_steps} steps of an arbitrary player; nothing wrong before"
    return f"{over} of {EPISODES} episodes ended within {subject.max_steps} steps, each for every agent"


def wrong_actions(subject: Subject) -> str:
    """Take actions that are none."""
    environment, count = subject.build(), 0
    for wrong in _wrong(environment.action_space(environment.agents[0])):
        result = subject.run(_take(environment, subject.seed, wrong))
        shown = repr(wrong)[:40]
        check_pay(result, shown)
        if not said_invalid(result.info):
            raise CheckFailure(f"The action {shown} is none, and info[{INVALID!r}] is {result.info.get(INVALID)!r}.")
        count += 1
    return f"{count} values that are no actions: counted as invalid, none raised"


def turns(subject: Subject) -> str:
    """Let agents speak whose turn it is not."""
    environment = subject.build()
    if len(environment.agents) == 1:
        raise NotApplicable("one agent")
    plain = subject.play(environment)
    if all(len(result.observations) in (0, len(environment.agents)) for result in plain):
        raise NotApplicable("all agents always act together")
    disturbed = subject.run(_interrupted(subject, subject.build()))
    for step, (one, other) in enumerate(zip(plain, disturbed, strict=False)):
        for part in ("observations", "rewards", "terminated", "truncated"):
            found = difference(getattr(one, part), getattr(other, part), f"step {step}: {part}")
            if found is not None:
                raise CheckFailure(f"An action out of turn changed what happens, at {found}.")
    return f"actions out of turn changed nothing in {len(plain) - 1} steps"


def tasks(subject: Subject) -> str:
    """Pose a given problem, as learners do."""
    environment = subject.build()
    posed = environment.tasks
    if not isinstance(posed, TaskSet):
        raise NotApplicable("no attribute `tasks` that holds a TaskSet; agents.train needs one")
    options = subject.options
    for option in ("tasks", "split"):
        if options is not None and option not in options:
            raise CheckFailure(f"The configuration has no {option!r}, which agents.train sets.")
    for index in range(min(2, len(posed))):
        task = posed[index]
        given = {"task": task, "an option that nobody knows": 1}
        for seed in (subject.seed, subject.seed + 1):
            result = subject.run(checked_reset(environment, seed=seed, options=given))
            if result.info.get("task_id") != task.id:
                raise CheckFailure(
                    f"reset(options={{'task': task}}) with the task {task.id!r} began an episode whose "
                    f"info['task_id'] is {result.info.get('task_id')!r}."
                )
    told = f"options['task'] poses that problem ({len(posed)} in the {posed.split} split); unknown options are ignored"
    last = subject.play(environment)[-1]
    if last.done and "correct" not in last.info:
        told += "; the last info has no 'correct', so evaluations have no accuracy (agents.train needs eval_every=0)"
    return told


def said_invalid(info: Mapping[str, Any]) -> bool:
    """Whether info tells that no decision of the step was an action."""
    said = info.get(INVALID)
    values = list(said.values()) if isinstance(said, Mapping) and said else [said]
    return all(isinstance(value, bool | np.bool_) and not value for value in values)


def check_pay(result: StepResult, shown: str) -> None:
    """Refuse a reward that is not finite."""
    for agent, reward in result.rewards.items():
        if not math.isfinite(float(reward)):
            raise CheckFailure(f"The action {shown} pays {agent!r} {reward!r}, which is no finite number.")


async def _take(environment: Environment, seed: int, action: Any) -> StepResult:
    """Reset, and let everybody whose turn it is take an action."""
    begun = await checked_reset(environment, seed=seed)
    return await checked_step(environment, dict.fromkeys(begun.observations, action))


async def _interrupted(subject: Subject, environment: Environment) -> list[StepResult]:
    """Play the episode of ``subject.play`` while everybody else acts too."""
    results = [await checked_reset(environment, seed=subject.seed)]
    for turn in range(subject.max_steps):
        if results[-1].done:
            break
        others = [agent for agent in environment.agents if agent not in results[-1].observations]
        strays = {agent: subject.action(environment, agent, turn, "out of turn") for agent in others}
        results.append(await checked_step(environment, {**subject.actions(environment, results[-1], turn), **strays}))
    return results


def _plays(subject: Subject) -> Iterator[list[StepResult]]:
    environment = subject.build()
    return (example.play(environment) for example in subject.examples)


def _check_paid(results: Sequence[StepResult]) -> None:
    """Refuse an episode that is over and never named a reward, be it 0, for somebody who acted in it."""
    acted = {agent for result in results for agent in result.observations}
    unpaid = sorted(acted.difference(*(result.rewards for result in results)))
    if results[-1].done and unpaid:
        raise CheckFailure(
            f"{unpaid} acted in an episode of {len(results) - 1} steps, none of which named a reward for them.",
            "Return rewards={agent: number} for whoever has acted, at the latest when the episode ends; name 0.0 where "
            "it earned nothing.",
        )


def _check_agent(environment: Environment, agent: AgentId, what: str) -> None:
    if agent not in environment.agents:
        raise CheckFailure(f"{what} name {agent!r}, which is none of the agents {environment.agents}.")


def _check_flags(environment: Environment, step: int, result: StepResult) -> None:
    for kind in ("terminated", "truncated"):
        for agent, flag in getattr(result, kind).items():
            _check_agent(environment, agent, f"{kind} of step {step}")
            if not isinstance(flag, bool | np.bool_):
                raise CheckFailure(f"At step {step} {kind}[{agent!r}] is {flag!r} and no bool.")
    acting = sorted(_ended(result) & set(result.observations))
    if acting:
        raise CheckFailure(f"At step {step} {acting} has ended and is to act next.")
    going = sorted(set(environment.agents) - _ended(result))
    if result.done and going:
        raise CheckFailure(f"At step {step} nobody acts any more, but {going} is neither terminated nor truncated.")


def _ended(result: StepResult) -> set[AgentId]:
    return {agent for flags in (result.terminated, result.truncated) for agent, flag in flags.items() if flag}


def _wrong(space: Space) -> list[Any]:
    """Values that are not in a space."""
    if isinstance(space, Text):
        return [None, 7, "x" * (space.max_length + 1)]
    if isinstance(space, Discrete):
        return [None, "no action", int(space.start) - 1, int(space.start + space.n)]
    return [None, "no action"]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{i}]")
    else:
        yield name, value


def _is_time(value: Any) -> bool:
    """Whether a value is a date, or a number of seconds, milli- or nanoseconds that means now."""
    if isinstance(value, date | datetime):
        return True
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return False
    return any(abs(float(value) / scale - time.time()) < DAY for scale in (1.0, 1e3, 1e9))
