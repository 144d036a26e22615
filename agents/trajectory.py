"""The map of everything that flows from rollouts to learners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reason_envs.core import AgentId, Message
from reason_envs.errors import unknown_name
from reason_envs.llm.engine import Sampling
from reason_envs.views import EpisodeView


@dataclass(frozen=True)
class Choice:
    """A sequence of categorical draws: T tokens of a language policy, one action of a graph policy."""

    token_ids: list[int]
    """What was drawn, [T]; these, never re-tokenised text, reach the loss."""
    log_probs: list[float] | None
    """The sampler's log-probability of each draw, [T]; for the mismatch metric and the correction only."""
    sampling: Sampling | None
    """How they were drawn."""
    finish_reason: str
    """``stop`` or ``length``."""
    policy_version: int
    """Version of the weights that drew."""
    prompt_ids: list[int]
    """What they were conditioned on."""
    text: str
    """The draws as text."""

    @property
    def generated_tokens(self) -> int:
        """Tokens of text that were drawn; an action that is conditioned on no prompt is no text."""
        return len(self.token_ids) if self.prompt_ids else 0


@dataclass
class Decision:
    """One turn of one agent."""

    episode_id: str
    """The episode it belongs to."""
    agent: AgentId
    """Who decided."""
    turn: int
    """How many decisions this agent had made before in the episode."""
    choice: Choice
    """What was chosen."""
    reward: float
    """Sum of the rewards paid to the agent until its next decision."""
    group_id: str
    """Written by the sampler: estimators compare what shares it."""
    on_path: bool = True
    """False for a candidate that was stepped but not continued from."""
    observation: Any = None
    """What the policy read."""

    @property
    def messages(self) -> list[Message]:
        """What a language policy read; empty for others."""
        read = self.observation
        written = isinstance(read, list) and all(isinstance(part, Mapping) and "content" in part for part in read)
        return list(read) if written else []


@dataclass
class Trajectory:
    """One episode."""

    task_id: str
    """The problem."""
    episode_id: str
    """Unique within a batch."""
    decisions: list[Decision]
    """Every decision in the order it was made."""
    terminated: bool
    """Whether the episode ended by itself."""
    truncated: bool
    """Whether a limit cut it off."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers from the environment's last info (``correct``, ...)."""
    final_observations: dict[AgentId, Any] = field(default_factory=dict)
    """What each agent that a limit cut off would have read next: values bootstrap there."""
    rendered: str = ""
    """The end of the episode as text, where the environment renders text."""
    facts: dict[str, str] = field(default_factory=dict)
    """Texts from the environment's last info (``extracted``, ``verdict``, ...)."""
    view: EpisodeView | None = None
    """What there is to see of it besides its dialogue."""
    overlong_prompts: int = 0
    """How often an agent had no room to answer and said nothing."""

    @property
    def path(self) -> list[Decision]:
        """The decisions that the episode continued from, in order; candidates left behind are not."""
        return [d for d in self.decisions if d.on_path]

    @property
    def length(self) -> float:
        """Turns of the episode as the environment counts them, else the decisions of its path."""
        return self.metrics.get("episode_length", float(len(self.path)))

    @property
    def total_reward(self) -> float:
        """What all agents earned on the path."""
        return sum(d.reward for d in self.path)

    @property
    def generated_tokens(self) -> int:
        """Every token generated for the episode: the policy's (candidates left behind too) and its engine's."""
        own = sum(d.choice.generated_tokens for d in self.decisions)
        return own + round(self.metrics.get("generated_tokens", 0))

    def streams(self) -> Iterator[list[Decision]]:
        """Iterate over the streams: each agent's decisions on the path, in order."""
        path = self.path
        for agent in dict.fromkeys(d.agent for d in path):
            yield [d for d in path if d.agent == agent]

    def stream_return(self, agent: AgentId) -> float:
        """Sum an agent's rewards over the episode's path.

        Raises:
            ReasonEnvsError: the agent made no decision in this episode.
        """
        agents = {d.agent for d in self.decisions}
        if agent not in agents:
            raise unknown_name("agent", agent, agents)
        return sum(d.reward for d in self.path if d.agent == agent)
