"""Adapter to OpenEnv's server: one session per client, all on one event loop.

The sessions play forks that share the engine and the reward model. Their steps run in the loop thread of the process,
so that simultaneous requests are answered in one batch, and the server stays responsive while a model generates.
"""

import asyncio
import json
import math
from functools import partial
from typing import Any

import numpy as np
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment as Served
from openenv.core.env_server.types import Action, ConcurrencyConfig, EnvironmentMetadata, Observation, State
from starlette.responses import JSONResponse

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.gymnasium import outcome, seen
from reason_envs.adapters.loop import run_from_loop
from reason_envs.core import Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import ReasonEnvsError, first_line


class ReasonAction(Action):
    """The next action of a session. Exactly one of the two fields must be given."""

    text: str | None = None
    """Response of a language model; ``parse_action`` of the environment converts it. ``None``: ``action`` is given."""
    action: Any = None
    """Element of the action space: a text, a number, or a list of numbers. ``None``: ``text`` is given."""


class ReasonObservation(Observation):
    """Result of a step; ``metadata`` is the environment's info (``metadata["agent"]``: the agent that acts next)."""

    messages: list[dict[str, str]] = []  # noqa: RUF012  (pydantic copies it)
    """Chat messages for a language policy; empty once the episode has ended."""
    observation: Any = None
    """Observation of the environment, with arrays as lists."""
    terminated: bool = False
    """Whether the episode reached a terminal state."""
    truncated: bool = False
    """Whether a limit ended the episode."""


class Session(Served):
    """Environment of one client: a fork that no other session plays."""

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
        """Start an episode; ``task``, a mapping with ``question`` and ``answer``, fixes the problem."""
        self._check_open()
        options = None if task is None else {"task": task}
        result = await run_from_loop(checked_reset(self.environment, seed=seed, options=options))
        self._state = State(episode_id=episode_id)
        return self._show(result, reward=None)

    async def step_async(self, action: ReasonAction, timeout_s: float | None = None, **_: Any) -> ReasonObservation:
        """Take one step. An invalid action does not raise an error.

        Raises:
            ReasonEnvsError: ``action`` must set one field only, the reward is not finite, or the session has ended.
        """
        self._check_open()
        result = await run_from_loop(checked_step(self.environment, {self.agent: self._read(action)}))
        self._state.step_count += 1
        reward = outcome(result, self.agent)[0]
        if not math.isfinite(reward):
            raise ReasonEnvsError(
                f"The environment returned the reward {reward}, which JSON cannot represent: return a finite number."
            )
        return self._show(result, reward)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> ReasonObservation:
        """Start an episode from synchronous code."""
        return asyncio.run(self.reset_async(seed, episode_id, **options))

    def step(self, action: ReasonAction, timeout_s: float | None = None, **_: Any) -> ReasonObservation:
        """Take one step from synchronous code."""
        return asyncio.run(self.step_async(action))

    @property
    def state(self) -> State:
        """Id of the episode and number of its steps so far."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """Return name and description of the environment."""
        description = (self._class.__doc__ or "").strip().partition("\n")[0]
        return EnvironmentMetadata(name=self._class.__name__, description=description)

    def close(self) -> None:
        """End the session. The shared engine stays open."""
        self._closed = True
        self.environment.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ReasonEnvsError(
                "This session has ended because it was idle for the server's --session-timeout: connect again and "
                "reset. If a step takes longer, start the server with a larger value."
            )

    def _read(self, action: ReasonAction) -> Any:
        if (action.text is None) == (action.action is None):
            raise ReasonEnvsError(f"A step needs either text or action, not {action.model_dump()}.")
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
    """Build OpenEnv's web application (ASGI) of an environment. Each session plays a fork of it.

    More than ``max_sessions`` sessions at the same time are refused. A session ends after ``session_timeout`` seconds
    without an answer, so steps must be shorter. With ``ENABLE_WEB_INTERFACE=true`` there is a page at ``/web``.
    """
    app = create_app(
        lambda: Session(environment.fork()),
        ReasonAction,
        ReasonObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=max_sessions, session_timeout=session_timeout),
        env_name=type(environment).__name__,
    )
    for kind, status in ((ReasonEnvsError, 400), (ValueError, 400), (OverflowError, 400), (Exception, 500)):
        app.add_exception_handler(kind, partial(_explained, status))
    return app


async def _explained(status: int, request: Any, error: Exception) -> Any:
    """Return the answer to a request that raised an error. The server prints the traceback of a status of 500."""
    return JSONResponse({"detail": f"{type(error).__name__}: {first_line(error)}"}, status)


def _plain(value: Any) -> Any:
    """Convert a value for JSON: arrays become lists."""
    return json.loads(json.dumps(value, default=_listed))


def _listed(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        raise ReasonEnvsError(
            f"{value!r} ({type(value).__name__}) cannot be sent to a client: JSON cannot represent it."
        )
    return value.tolist()
