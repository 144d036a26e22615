"""A game of two roles for tests: they write in turns, see each other's texts, and earn team and local rewards."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from agents.policies.base import Policy
from agents.trajectory import Choice
from reason_envs.batching import MicroBatcher
from reason_envs.core import Environment, StepResult, derive_seed
from reason_envs.llm.engine import Sampling
from reason_envs.spaces import UnicodeText
from reason_envs.tasks import make

TOOL_TOKENS = 3
"""Number of tokens per call of the frozen tool."""


def lower_case(agent, text):
    """Pay the team 1 if the scout starts in lower case, or if the digger does not."""
    good = float(bool(text) and text[0].islower() == (agent == "scout"))
    return good, 0.0


def spelled_out(agent, text):
    """Pay team and agent the two numbers of the text, such as ``"1 0.5"``."""
    team, local = map(float, text.split())
    return team, local


@dataclass
class RelayConfig:
    tasks: Any = field(default_factory=lambda: {"name": "chain_sum", "max_samples": 20})
    """Tasks of the game; only their text is shown."""
    split: str = "train"
    """Split of the tasks."""
    max_turns: int = 2
    """Number of turns per role."""
    goal: float = 99.0
    """Team reward that ends the episode early."""
    alpha: float = 1.0
    """Weight of the team reward."""
    judge: Any = None
    """Function ``(agent, text) -> (team, local)`` that pays; ``None``: `lower_case`."""
    together: bool = False
    """Whether both roles act at the same time."""


@dataclass
class RelayState:
    seed: int
    question: str = ""
    said: list[str] = field(default_factory=list)
    team: float = 0.0
    tool_tokens: int = 0


class Relay(Environment):
    """Scout and digger write in turns. A frozen tool returns a number that depends on the episode at every step."""

    agents = ("scout", "digger")

    def __init__(self, config=None):
        self.config = config or RelayConfig()
        self.tasks = make(self.config.tasks, self.config.split)
        self.judge = self.config.judge or lower_case
        self.space = UnicodeText(100_000)
        self.tool = MicroBatcher(lambda seeds: [seed % 1000 for seed in seeds])
        self.forked = []
        """Every environment that was forked, with its state before."""

    def observation_space(self, agent):
        return self.space

    def action_space(self, agent):
        return self.space

    def fork(self, seed=None):
        self.forked.append((self, copy.deepcopy(self.state)))
        return super().fork(seed)

    def _observations(self, echo):
        turn = len(self.state.said)
        acting = self.agents if self.config.together else (self.agents[turn % 2],)
        said = " / ".join(self.state.said)
        return {a: f"You are the {a}. {self.state.question} Turn {turn}, echo {echo}. Said: {said}" for a in acting}

    async def reset(self, *, seed=None, options=None):
        self.state = RelayState(self.episode_seed(seed), options["task"].question)
        return StepResult(self._observations(0), info={"generated_tokens": 0})

    async def step(self, actions):
        state, rewards = self.state, {}
        for agent, text in actions.items():
            team, local = self.judge(agent, text)
            state.team += team
            rewards[agent] = self.config.alpha * team + local
            state.said.append(f"{agent}: {text}")
        echo = await self.tool(derive_seed(state.seed, "tool", len(state.said)))
        state.tool_tokens += TOOL_TOKENS
        solved, over = state.team >= self.config.goal, len(state.said) >= 2 * self.config.max_turns
        info = {"generated_tokens": state.tool_tokens, "correct": solved, "echo": echo}
        if not (solved or over):
            return StepResult(self._observations(echo), rewards, info=info)
        ends = {"terminated" if solved else "truncated": dict.fromkeys(self.agents, True)}
        return StepResult({}, rewards, info=info, **ends)

    def render_messages(self, observation):
        return [{"role": "user", "content": observation}]

    def parse_action(self, text):
        return text


class Script(Policy):
    """Writes ``line(agent, turn, k)`` as candidate ``k``, and records the agents and seeds of all calls."""

    def __init__(self, line):
        self.line = line
        self.asked = []

    def observe(self, environment, observation):
        return observation

    async def act(self, observations, seeds, sampling=None, *, agents):
        turn = int(observations[0].split("Turn ")[1].split(",")[0]) // 2
        self.asked.append((agents[0], turn, list(seeds)))
        texts = [self.line(agent, turn, k) for k, agent in enumerate(agents)]
        rows = [[1, sum(text.encode())] for text in texts]
        return [Choice(row, None, Sampling(), "stop", 0, [3], text) for row, text in zip(rows, texts, strict=True)]
