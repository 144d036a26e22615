"""The data that flows from rollouts to learners: choices, decisions and trajectories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reason_envs.core import AgentId, Message
from reason_envs.llm.engine import Sampling
from reason_envs.views import EpisodeView


@dataclass(frozen=True)
class Choice:
    """A sequence of categorical draws: T tokens of a language policy, or one action of a graph policy (T = 1)."""

    token_ids: list[int]
    """Ids of the sampled tokens, [T]. The loss uses them; text is never tokenised again."""
    log_probs: list[float] | None
    """Log-probability of each token as the engine computed it, [T]. Only the mismatch metric and the correction use it.
    ``None``: the engine returned none."""
    sampling: Sampling | None
    """Sampling parameters of the tokens. ``None``: the choice was not sampled, so it cannot be trained on."""
    finish_reason: str
    """Why the choice ended: ``stop``, or ``length`` if it reached the maximum number of tokens."""
    policy_version: int
    """Version of the weights that sampled: the number of training steps behind them."""
    prompt_ids: list[int]
    """Ids of the prompt tokens that the choice is conditioned on; empty for policies that read arrays."""
    text: str
    """The choice as text."""
    counted_tokens: int | None = None
    """Number of tokens as a server counted them. ``None``: that of ``token_ids``."""

    @property
    def generated_tokens(self) -> int:
        """Number of generated text tokens; 0 for an action without a prompt."""
        if self.counted_tokens is not None:
            return self.counted_tokens
        return len(self.token_ids) if self.prompt_ids else 0


@dataclass
class Decision:
    """One turn of one agent."""

    episode_id: str
    """Id of the episode that the decision belongs to."""
    agent: AgentId
    """The agent that decided."""
    turn: int
    """Number of earlier decisions of this agent in the episode."""
    choice: Choice
    """The choice that the policy made."""
    reward: float
    """Sum of the rewards that the agent was paid until its next decision."""
    group_id: str
    """Name of the group of the decision. The rollout writes it, and estimators compare the decisions of a group."""
    on_path: bool = True
    """Whether the episode continued from this decision. False for the other candidates of a turn."""
    observation: Any = field(default=None, repr=False)
    """Input of the policy, as ``Policy.observe`` returned it."""

    @property
    def messages(self) -> list[Message]:
        """The chat messages that a language policy read; empty for other policies."""
        read = self.observation
        is_chat = isinstance(read, list) and all(isinstance(part, Mapping) and "content" in part for part in read)
        return list(read) if is_chat else []


@dataclass
class Trajectory:
    """One episode."""

    task_id: str
    """Id of the task."""
    episode_id: str
    """Id of the episode, unique within a batch."""
    decisions: list[Decision]
    """Every decision in the order in which it was made."""
    terminated: bool
    """Whether the episode reached an end of the task."""
    truncated: bool
    """Whether a limit ended the episode."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers from the environment's last info, such as ``correct``."""
    final_observations: dict[AgentId, Any] = field(default_factory=dict, repr=False)
    """The next input of each agent that a limit truncated; its value is bootstrapped there."""
    rendered: str = ""
    """The end of the episode as text; empty if the environment does not render text."""
    facts: dict[str, str] = field(default_factory=dict)
    """Texts from the ``info`` of the last step, such as ``extracted`` or ``verdict``, by name."""
    view: EpisodeView | None = field(default=None, repr=False)
    """Everything to show of the episode besides its dialogue. ``None``: there is only the dialogue."""
    overlong_prompts: int = 0
    """Number of turns that were skipped because the prompt was too long."""
    failure: str = ""
    """Error of an engine or sandbox that ended the episode, which then has no decisions. Empty: there is none."""

    @property
    def path(self) -> list[Decision]:
        """The decisions that the episode continued from, in order."""
        return [d for d in self.decisions if d.on_path]

    @property
    def length(self) -> float:
        """Number of turns as the environment counts them, or else of decisions on the path."""
        return self.metrics.get("episode_length", float(len(self.path)))

    @property
    def total_reward(self) -> float:
        """Sum of the rewards of all agents on the path."""
        return sum(d.reward for d in self.path)

    @property
    def generated_tokens(self) -> int:
        """Number of tokens generated for the episode by the policy, all candidates included, and by engines."""
        own = sum(d.choice.generated_tokens for d in self.decisions)
        return own + round(self.metrics.get("generated_tokens", 0))

    def stream_return(self, agent: AgentId) -> float:
        """Return the sum of an agent's rewards on the path."""
        return sum(d.reward for d in self.path if d.agent == agent)
