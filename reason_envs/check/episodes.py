"""Checks of single episodes: determinism, valid results, invalid actions, turns and tasks."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
    """Check agents and spaces, and that the spaces contain the observations."""
    environment = subject.build()
    for agent in environment.agents:
        for kind in ("observation_space", "action_space"):
            if getattr(environment, kind)(agent) is not getattr(environment, kind)(agent):
                raise CheckFailure(
                    f"{kind}({agent!r}) returns a new object at every call.",
                    "Build the space once, in __init__, and return it.",
                )
    seen = 0
    for results in _plays(subject):
        for step, result in enumerate(results):
            for agent, observation in {**result.observations, **result.final_observations}.items():
                _check_agent(environment, agent, f"Observations of step {step}")
                if not environment.observation_space(agent).contains(observation):
                    raise CheckFailure(
                        f"At step {step} the observation of {agent!r}, {str(observation)[:60]!r}, is not in its "
                        f"observation space {environment.observation_space(agent)}."
                    )
                seen += 1
    return f"{len(environment.agents)} agent(s), {seen} observations in their spaces"


def determinism(subject: Subject) -> str:
    """Play the same episodes in two environments, and again in one of them."""
    environment, other, count = subject.build(), subject.build(), 0
    for example in subject.examples:
        first = example.play(environment)
        for again, what in ((other, "in two environments"), (environment, "before and after another episode")):
            found = compare(first, example.play(again))
            if found is not None:
                raise CheckFailure(f"Same seed and same actions {what}: results differ at {found}.")
        count += len(first)
    return f"{count} results are repeated by equal seeds and actions, in a new environment and in the same one"


def clocks(subject: Subject) -> str:
    """Check that info contains no times."""
    for results in _plays(subject):
        for result in results:
            for name, value in _leaves(result.info):
                if _is_time(value):
                    raise CheckFailure(f"info{name} = {value!r} is a time.")
    return "no time in info"


def rewards(subject: Subject) -> str:
    """Check that rewards are finite and belong to agents that have acted."""
    environment, values = subject.build(), []
    for results in _plays(subject):
        for step, result in enumerate(results):
            for agent, reward in result.rewards.items():
                _check_agent(environment, agent, f"Rewards of step {step}")
                number = isinstance(reward, int | float | np.number) and not isinstance(reward, bool)
                if not number or not math.isfinite(float(reward)):
                    raise CheckFailure(f"The reward of {agent!r} at step {step}, {reward!r}, is not a finite number.")
                if step == 0 and reward:
                    raise CheckFailure(f"reset returns the reward {reward!r} for {agent!r}, before its first decision.")
                values.append(float(reward))
        _check_paid(results)
    if not values:
        raise NotApplicable(
            f"no rewards were returned, and no episode with a decision ended within {subject.max_steps} steps"
        )
    return f"{len(values)} finite rewards from {min(values, default=0):g} to {max(values, default=0):g}"


def ends(subject: Subject) -> str:
    """Check that no agent must act after its episode has ended."""
    environment, over = subject.build(), 0
    for results in _plays(subject):
        for step, result in enumerate(results):
            _check_flags(environment, step, result)
        for before, after in pairwise(results):
            back = {a for a in _ended(before) if a in after.observations}
            if back:
                raise CheckFailure(f"{sorted(back)} must act although the episode has ended for it.")
        over += results[-1].done
    if not over:
        limit = environment.max_decisions
        if not subject.run(replace(subject, max_steps=limit).episode(environment))[-1].done:
            raise CheckFailure(
                f"An episode did not end within {limit} steps.",
                "Return truncated={agent: True} and no observations after a maximum number of turns.",
            )
        return f"an episode of an arbitrary player ended after more than {subject.max_steps} steps"
    return f"{over} of {EPISODES} episodes ended within {subject.max_steps} steps, for every agent"


def wrong_actions(subject: Subject) -> str:
    """Take actions that are not in the action space."""
    environment, count = subject.build(), 0
    for wrong in _wrong(environment.action_space(environment.agents[0])):
        result = subject.run(take(environment, subject.seed, wrong))
        shown = repr(wrong)[:40]
        check_finite(result, shown)
        if not reports_invalid(result.info):
            raise CheckFailure(f"The action {shown} is invalid, but info[{INVALID!r}] is {result.info.get(INVALID)!r}.")
        count += 1
    return f"{count} invalid values are reported as invalid and raise no error"


def turns(subject: Subject) -> str:
    """Send actions of agents that do not act."""
    environment = subject.build()
    if len(environment.agents) == 1:
        raise NotApplicable("the environment has one agent only")
    plain = subject.play(environment)
    if all(len(result.observations) in (0, len(environment.agents)) for result in plain):
        raise NotApplicable("all agents always act at the same time")
    disturbed = replace(subject, strays=True).play(subject.build())
    for step, (one, other) in enumerate(zip(plain, disturbed, strict=False)):
        for part in ("observations", "rewards", "terminated", "truncated"):
            found = difference(getattr(one, part), getattr(other, part), f"step {step}: {part}")
            if found is not None:
                raise CheckFailure(f"An action out of turn changed the episode at {found}.")
    return f"actions out of turn change nothing in {len(plain) - 1} steps"


def tasks(subject: Subject) -> str:
    """Pose given problems, as learners do."""
    environment = subject.build()
    posed = environment.tasks
    if not isinstance(posed, TaskSet):
        raise NotApplicable("the attribute `tasks` is not a TaskSet; agents.train needs one")
    options = subject.options
    for option in ("tasks", "split"):
        if options is not None and option not in options:
            raise CheckFailure(f"The configuration has no field {option!r}, which agents.train sets.")
    for index in range(min(2, len(posed))):
        task = posed[index]
        given = {"task": task, "an unknown option": 1}
        for seed in (subject.seed, subject.seed + 1):
            result = subject.run(checked_reset(environment, seed=seed, options=given))
            if result.info.get("task_id") != task.id:
                raise CheckFailure(
                    f"reset(options={{'task': task}}) with the task {task.id!r} returned info['task_id'] = "
                    f"{result.info.get('task_id')!r}."
                )
    detail = f"options['task'] poses a given problem ({len(posed)} in the {posed.split} split)"
    last = subject.play(environment)[-1]
    if last.done and "correct" not in last.info:
        detail += "; without 'correct' in the last info evaluations have no accuracy (agents.train needs eval_every=0)"
    return detail


def reports_invalid(info: Mapping[str, Any]) -> bool:
    """Whether info reports all decisions of the step as invalid."""
    said = info.get(INVALID)
    values = list(said.values()) if isinstance(said, Mapping) and said else [said]
    return all(isinstance(value, bool | np.bool_) and not value for value in values)


def check_finite(result: StepResult, shown: str) -> None:
    """Raise if a reward is not finite."""
    for agent, reward in result.rewards.items():
        if not math.isfinite(float(reward)):
            raise CheckFailure(f"The reward of {agent!r} after the action {shown}, {reward!r}, is not a finite number.")


async def take(environment: Environment, seed: int, action: Any) -> StepResult:
    """Reset and let every agent that acts take the same action."""
    begun = await checked_reset(environment, seed=seed)
    return await checked_step(environment, dict.fromkeys(begun.observations, action))


def _plays(subject: Subject) -> Iterator[list[StepResult]]:
    environment = subject.build()
    return (example.play(environment) for example in subject.examples)


def _check_paid(results: Sequence[StepResult]) -> None:
    """Raise if an episode is over and an agent that acted has never received a reward, which may be 0."""
    acted = {agent for result in results for agent in result.observations}
    unpaid = sorted(acted.difference(*(result.rewards for result in results)))
    if results[-1].done and unpaid:
        raise CheckFailure(
            f"{unpaid} acted in an episode of {len(results) - 1} steps that never returned a reward for them.",
            "Return rewards={agent: number} for every agent that has acted, at the latest at the end of the episode; "
            "the number may be 0.0.",
        )


def _check_agent(environment: Environment, agent: AgentId, what: str) -> None:
    if agent not in environment.agents:
        raise CheckFailure(f"{what} contain {agent!r}, which is not one of the agents {environment.agents}.")


def _check_flags(environment: Environment, step: int, result: StepResult) -> None:
    for kind in ("terminated", "truncated"):
        for agent, flag in getattr(result, kind).items():
            _check_agent(environment, agent, f"{kind} of step {step}")
            if not isinstance(flag, bool | np.bool_):
                raise CheckFailure(f"At step {step} {kind}[{agent!r}] = {flag!r} is not a bool.")
    acting = sorted(_ended(result) & set(result.observations))
    if acting:
        raise CheckFailure(f"At step {step} {acting} must act next although the episode has ended for it.")
    going = sorted(set(environment.agents) - _ended(result))
    if result.done and going:
        raise CheckFailure(f"At step {step} no agent acts any more, but {going} is neither terminated nor truncated.")


def _ended(result: StepResult) -> set[AgentId]:
    return {agent for flags in (result.terminated, result.truncated) for agent, flag in flags.items() if flag}


def _wrong(space: Space) -> list[Any]:
    """Return values that are not in a space."""
    if isinstance(space, Text):
        return [None, 7, "x" * (space.max_length + 1)]
    if isinstance(space, Discrete):
        return [None, "not an action", int(space.start) - 1, int(space.start + space.n)]
    return [None, "not an action"]


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
    """Whether a value is a date, or the current time in seconds, milliseconds or nanoseconds."""
    if isinstance(value, date | datetime):
        return True
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return False
    return any(abs(float(value) / scale - time.time()) < DAY for scale in (1.0, 1e3, 1e9))
