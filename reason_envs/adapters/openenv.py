"""Our environments behind OpenEnv's server: one session an episode under way, all on one event loop.

The sessions' forks share engine and reward model, and their steps run on the process's loop thread, so that what many
sessions ask at the same time is answered in one batch, and the server goes on answering while a model generates.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment as Served
from openenv.core.env_server.types import Action, ConcurrencyConfig, EnvironmentMetadata, Observation, State

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.gymnasium import outcome, seen
from reason_envs.adapters.loop import run_from_loop
from reason_envs.core import Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import ReasonEnvsError


class ReasonAction(Action):
    """What a session does next; exactly one of the two fields."""

    text: str | None = None
    """A language model's response, which the environment's ``parse_action`` reads."""
    action: Any = None
    """An element of the action space: a text, a number, or a list of numbers."""


class ReasonObservation(Observation):
    """What a session sees; ``metadata`` is the environment's info (``metadata["agent"]``: whose turn it is)."""

    messages: list[dict[str, str]] = []  # noqa: RUF012  (pydantic copies it)
    """The chat messages that a language policy would answer; none once the episode has ended."""
    observation: Any = None
    """The observation itself, arrays as lists."""
    terminated: bool = False
    """Whether the episode reached an end of its own."""
    truncated: bool = False
    """Whether it was cut off by a limit."""


class Session(Served):
    """One client's environment: a fork that nobody else plays.

    Args:
        environment: the fork.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self._class = type(environment)
        self.environment = single_agent(environment)
        (self.agent,) = self.environment.agents
        self._seen: Any = None
        self._state = State()
        self._closed = False

    async def reset_async(
        self, seed: int | None = None, episode_id: str | None = None, task: Any = None, **_: Any
    ) -> ReasonObservation:
        """Start an episode; ``task`` fixes the problem: a mapping with ``question`` and ``answer``."""
        self._check_open()
        options = None if task is None else {"task": task}
        result = await run_from_loop(checked_reset(self.environment, seed=seed, options=options))
        self._state = State(episode_id=episode_id)
        return self._show(result, reward=None)

    async def step_async(self, action: ReasonAction, timeout_s: float | None = None, **_: Any) -> ReasonObservation:
        """Take one step; a wrong action never raises, one that is no action at all does."""
        self._check_open()
        result = await run_from_loop(checked_step(self.environment, {self.agent: self._read(action)}))
        self._state.step_count += 1
        reward = outcome(result, self.agent)[0]
        if not math.isfinite(reward):
            raise ReasonEnvsError(f"The environment paid {reward}, which cannot be sent: it is no number.")
        return self._show(result, reward)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> ReasonObservation:
        """Start an episode from synchronous code."""
        return asyncio.run(self.reset_async(seed, episode_id, **options))

    def step(self, action: ReasonAction, timeout_s: float | None = None, **_: Any) -> ReasonObservation:
        """Take one step from synchronous code."""
        return asyncio.run(self.step_async(action))

    @property
    def state(self) -> State:
        """The episode's id and its steps so far."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """Name and describe the environment."""
        description = (self._class.__doc__ or "").strip().partition("\n")[0]
        return EnvironmentMetadata(name=self._class.__name__, description=description)

    def close(self) -> None:
        """End the session; the shared engine stays open."""
        self._closed = True
        self.environment.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ReasonEnvsError(
                "This session has ended, for it was idle too long, or a step took longer than the server's "
                "--session-timeout: connect again and reset."
            )

    def _read(self, action: ReasonAction) -> Any:
        if (action.text is None) == (action.action is None):
            raise ReasonEnvsError(f"A step takes either a text or an action, not {action.model_dump()}.")
        if action.text is not None:
            return self.environment.parse_action(action.text)
        if isinstance(action.action, list):
            return np.asarray(action.action, self.environment.action_space(self.agent).dtype)
        return action.action

    def _show(self, result: StepResult, reward: float | None) -> ReasonObservation:
        self._seen = seen(result, self.agent, self._seen)
        _, terminated, truncated = outcome(result, self.agent)
        return ReasonObservation(
            done=result.done,
            reward=reward,
            metadata=_plain(result.info),
            messages=[] if result.done else self.environment.render_messages(self._seen),
            observation=_plain(self._seen),
            terminated=terminated,
            truncated=truncated,
        )


def make_app(environment: Environment, max_sessions: int, session_timeout: float) -> Any:
    """Build OpenEnv's web application (ASGI) of an environment.

    Args:
        environment: the prototype; each session plays a fork of it.
        max_sessions: most sessions at the same time; one more is refused.
        session_timeout: seconds without an answer after which a session ends; no step may take longer.
    """
    return create_fastapi_app(
        lambda: Session(environment.fork()),
        ReasonAction,
        ReasonObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=max_sessions, session_timeout=session_timeout),
        env_name=type(environment).__name__,
    )


def _plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: arrays become lists."""
    return json.loads(json.dumps(value, default=_listed))


def _listed(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        raise ReasonEnvsError(f"{value!r} ({type(value).__name__}) cannot be sent to a client: it is not JSON.")
    return value.tolist()
