"""A multi-agent environment with one controller that acts for the agent whose turn it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from gymnasium import Space

from reason_envs.core import Action, AgentId, Environment, Message, StepResult, checked_reset, checked_step
from reason_envs.errors import NoEpisodeError, ReasonEnvsError

CONTROLLER: AgentId = "controller"


@dataclass
class ControllerState:
    """One round: the agents that must act before the environment is stepped."""

    seed: int
    """Seed of the episode of the controlled environment."""
    asked: list[AgentId] = field(default_factory=list)
    """Agents that act in this round, in the order of ``agents``."""
    observations: dict[AgentId, Any] = field(default_factory=dict)
    """Observation of each of these agents."""
    actions: dict[AgentId, Action] = field(default_factory=dict)
    """Actions chosen so far in this round, by agent."""


class Controller(Environment):
    """One agent in place of several, which must have the same observation space and action space.

    If several agents act at the same time, the controller chooses their actions one after the other, and then the
    environment is stepped. The reward is the sum over all agents. ``info["rewards"]`` has the reward per agent, and
    ``info["agent"]`` the agent that acts next (no such key at the end of an episode).
    """

    agents = (CONTROLLER,)

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.metadata = environment.metadata
        self.reset_options = environment.reset_options
        self.render_mode = environment.render_mode
        self._observation_space = _common(environment, "observation_space")
        self._action_space = _common(environment, "action_space")

    def observation_space(self, agent: AgentId) -> Space:
        """Return the space that all agents share."""
        return self._observation_space

    def action_space(self, agent: AgentId) -> Space:
        """Return the space that all agents share."""
        return self._action_space

    async def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Start an episode of the controlled environment."""
        return self._open_round(await checked_reset(self.environment, seed=seed, options=options))

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Store the action of the next agent. The last action of a round steps the environment."""
        state = self.state
        if state is None or not state.asked:
            raise NoEpisodeError
        state.actions[self._next_agent()] = actions[CONTROLLER]
        if len(state.actions) < len(state.asked):
            return self._ask({}, {})
        return self._open_round(await checked_step(self.environment, state.actions))

    def episode_seed(self, seed: int | None) -> int:
        """Return the seed of an episode of the controlled environment."""
        return self.environment.episode_seed(seed)

    def _built_from(self) -> Environment:
        return self.environment

    def render_messages(self, observation: Any) -> list[Message]:
        """Convert an observation to chat messages, as the controlled environment does."""
        return self.environment.render_messages(observation)

    def parse_action(self, text: str) -> Action:
        """Convert text to an action, as the controlled environment does."""
        return self.environment.parse_action(text)

    def fork(self, seed: int | None = None) -> Self:
        """Fork the controlled environment and the actions of this round."""
        clone = super().fork()
        clone.environment = self.environment.fork(seed)
        return clone

    def render(self) -> Any:
        """Render the controlled environment."""
        return self.environment.render()

    def close(self) -> None:
        """Close the controlled environment."""
        self.environment.close()

    def _next_agent(self) -> AgentId:
        return self.state.asked[len(self.state.actions)]

    def _open_round(self, result: StepResult) -> StepResult:
        asked = [agent for agent in self.environment.agents if agent in result.observations]
        self.state = ControllerState(self.environment.state.seed, asked, result.observations)
        if asked:
            return self._ask(result.rewards, result.info)
        seen = list(result.final_observations.values())[:1]
        return StepResult(
            {},
            {CONTROLLER: sum(result.rewards.values())},
            {CONTROLLER: not any(result.truncated.values())},
            {CONTROLLER: any(result.truncated.values())},
            dict.fromkeys(self.agents, *seen) if seen else {},
            {**result.info, "rewards": self._split(result.rewards)},
        )

    def _ask(self, rewards: Mapping[AgentId, float], info: Mapping[str, Any]) -> StepResult:
        agent = self._next_agent()
        return StepResult(
            {CONTROLLER: self.state.observations[agent]},
            {CONTROLLER: sum(rewards.values())},
            info={**info, "agent": agent, "rewards": self._split(rewards)},
        )

    def _split(self, rewards: Mapping[AgentId, float]) -> dict[AgentId, float]:
        return {agent: rewards.get(agent, 0.0) for agent in self.environment.agents}


def single_agent(environment: Environment) -> Environment:
    """Return the environment if it has one agent, or else a `Controller` of it."""
    return environment if len(environment.agents) == 1 else Controller(environment)


def _common(environment: Environment, kind: str) -> Space:
    spaces = {agent: getattr(environment, kind)(agent) for agent in environment.agents}
    first, *others = spaces.values()
    if any(space != first for space in others):
        raise ReasonEnvsError(
            f"One controller cannot act for agents with different spaces ({kind}: {spaces}). Use "
            "reason_envs.make_environment, whose step takes and returns mappings by agent."
        )
    return first
