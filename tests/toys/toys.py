"""Small environments for tests: a counting game for one agent, for two in turns, and for two at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from reason_envs.batching import MicroBatcher
from reason_envs.core import Environment, StepResult, derive_seed
from reason_envs.spaces import UnicodeText


class CountingEngine:
    """Answers requests with a number below 100 that depends on the request, and records the batches."""

    def __init__(self):
        self.batches = []
        self.ask = MicroBatcher(self._answer)

    def _answer(self, requests):
        self.batches.append(requests)
        return [derive_seed(*request) % 100 for request in requests]


@dataclass
class ToyState:
    seed: int
    turn: int = 0
    answers: list[int] = field(default_factory=list)


@dataclass
class ToyConfig:
    turns: int = 3
    """Number of steps per episode."""
    truncate: bool = False
    """Whether episodes end by truncation instead of termination."""
    engine: CountingEngine | None = None
    """Engine that draws the numbers; ``None``: a new one."""


class Toy(Environment):
    """Every step calls the engine once. The reward is 1 if the action is the engine's last answer."""

    agents = ("solver",)

    def __init__(self, config=None):
        self.config = config or ToyConfig()
        self.engine = self.config.engine or CountingEngine()
        self.space = UnicodeText(200)
        self.closed = False

    def observation_space(self, agent):
        return self.space

    def action_space(self, agent):
        return self.space

    def _actors(self):
        return (self.agents[self.state.turn % len(self.agents)],)

    async def reset(self, *, seed=None, options=None):
        self.state = ToyState(self.episode_seed(seed))
        observation = await self._observe("start")
        return StepResult(dict.fromkeys(self._actors(), observation), info={"turn": 0})

    async def step(self, actions):
        rewards = {a: float(actions[a] == str(self.state.answers[-1])) for a in self._actors()}
        self.state.turn += 1
        observation = await self._observe("".join(actions.values()))
        info = {"turn": self.state.turn}
        if self.state.turn < self.config.turns:
            return StepResult(dict.fromkeys(self._actors(), observation), rewards, info=info)
        ended, final = dict.fromkeys(self.agents, True), dict.fromkeys(self.agents, observation)
        ends = {"truncated": ended} if self.config.truncate else {"terminated": ended}
        return StepResult({}, rewards, final_observations=final, info=info, **ends)

    async def _observe(self, text):
        self.state.answers.append(await self.engine.ask((self.state.seed, self.state.turn, text)))
        return f"turn {self.state.turn}: {self.state.answers[-1]}"

    def render_messages(self, observation):
        return [{"role": "user", "content": observation}]

    def parse_action(self, text):
        return text

    def render(self):
        return f"{self.state.answers}" if self.render_mode == "ansi" else None

    def close(self):
        self.closed = True


class TurnToy(Toy):
    """Two agents that act in turns."""

    agents = ("first", "second")


class TogetherToy(Toy):
    """Two agents that act at the same time."""

    agents = ("left", "right")

    def _actors(self):
        return self.agents


class Forgetful(Toy):
    """The step returns nothing."""

    async def step(self, actions):
        await super().step(actions)


class ForgetfulPair(Forgetful, TogetherToy):
    """The same game for two agents that act at the same time."""
