"""The episodes of an OpenEnv server: the player's responses are actions, and what it reads are observations.

Check it and train it where Python finds this package (installed, or its folder on ``PYTHONPATH``)::

    python -m reason_envs.check their_parts.remote:TheirRemote-v0 url=http://127.0.0.1:8000
    python -m agents.train env=their_parts.remote:TheirRemote-v0 env.url=http://127.0.0.1:8000
"""

import json
from dataclasses import dataclass
from typing import Any

from openenv.core import GenericEnvClient
from websockets.exceptions import WebSocketException

from reason_envs import register, tasks
from reason_envs.core import StepResult
from reason_envs.envs.task_environment import Reply, TaskConfig, TextEnvironment
from reason_envs.errors import EngineError


def seeds(split: tasks.Split, size: int = 100) -> tasks.TaskSet:
    """A task family: a task is the seed of an episode of the server. The splits have different seeds."""
    first = 0 if split == "train" else size
    pool = [tasks.Task(f"{split}/{i}", str(first + i), "") for i in range(size)]
    return tasks.ListTaskSet("remote_seeds", split, pool)


@dataclass
class RemoteConfig(TaskConfig):
    """Options of TheirRemote-v0."""

    tasks: Any = "remote_seeds"
    url: str = "http://127.0.0.1:8000"
    """Address of the server."""
    action: str = "message"
    """Field of an action that holds the response."""
    observation: str = "message"
    """Field of an observation that the player reads."""


class Remote(TextEnvironment):
    """Pays the rewards of the server. A response is correct if the reward that ends the episode is positive."""

    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Start an episode with what the server shows first."""
        await super().reset(seed=seed, options=options)
        self.state.replies = [self.shown(await self.played(self.task.question, []))]
        return self.first_result()

    async def answer(self, response: str) -> Reply:
        """Reply what the server replies to the last response."""
        result = await self.played(self.task.question, self.state.responses)
        reward = float(result.reward or 0.0)
        return Reply(reward, None, {"correct": reward > 0}) if result.done else Reply(reward, self.shown(result))

    def observe(self, agent: str) -> str:
        """Return the observations so far."""
        return "\n".join(self.state.replies)

    async def check_servers(self) -> None:
        """Reset once before a run, so that a wrong address is an error before a model is loaded."""
        await self.played("0", [])

    async def played(self, seed: str, responses: list[str]) -> Any:
        """Return the last result of an episode, which is played from its start: forks need no connection then."""
        try:
            async with GenericEnvClient(base_url=self.config.url) as client:
                result = await client.reset(seed=int(seed))
                for response in responses:
                    result = await client.step({self.config.action: response})
                return result
        except (OSError, RuntimeError, WebSocketException) as error:  # a run counts the episode as failed and goes on
            raise EngineError(f"url={self.config.url!r}: {error}. Start the server, or correct url.") from error

    def shown(self, result: Any) -> str:
        """Return what the player reads of a result."""
        read = result.observation.get(self.config.observation, result.observation)
        return read if isinstance(read, str) else json.dumps(read)


tasks.register("remote_seeds", seeds)
register("TheirRemote-v0", Remote, RemoteConfig)
