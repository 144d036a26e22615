"""Adapters to PettingZoo's ``ParallelEnv`` and ``AECEnv`` for environments with several agents.

Agents are named ``role_0``, as PettingZoo recommends. Text observations become ``{"text": text}``, because PettingZoo's
AEC test rejects plain strings. ``environment.observe(agent)`` gives the observations of agents that do not act.
"""

from collections.abc import Mapping
from typing import Any

from gymnasium import Space
from gymnasium.spaces import Dict, Text
from pettingzoo import AECEnv, ParallelEnv

from reason_envs.adapters.synchronous import Options, SynchronousEnv, check_reset_options, make_core
from reason_envs.core import AgentId, Environment, StepResult, checked_reset, checked_step
from reason_envs.errors import ReasonEnvsError, unknown_name


def parallel_env(name: str, *, render_mode: str | None = None, **options: Any) -> "ParallelAdapter":
    """Build an environment for PettingZoo's parallel API.

    Every agent gets an observation at every step. ``infos[agent]["acts"]`` is true for the agents that act next, and
    actions of other agents are ignored without a penalty. All agents remain active until the episode ends.

    Args:
        name: id or short name, such as ``"petting_plan_path"``.
        render_mode: a render mode of the environment, or ``human``, which prints the episode after each step.
        options: the environment's options.
    """
    return ParallelAdapter(*make_core(name, render_mode, options))


def aec_env(name: str, *, render_mode: str | None = None, **options: Any) -> "AECAdapter":
    """Build an environment for PettingZoo's agent-environment-cycle API, with the arguments of `parallel_env`.

    ``agent_iter`` yields the agents that act.
    """
    return AECAdapter(*make_core(name, render_mode, options))


class _SeatedEnv(SynchronousEnv):
    """An environment whose agents and spaces have PettingZoo names."""

    def __init__(self, environment: Environment, human: bool = False) -> None:
        if type(environment).observe is Environment.observe:
            raise ReasonEnvsError(
                f"{type(environment).__name__} does not define observe(agent), which PettingZoo needs for agents that "
                "do not act. Define it, or use gymnasium.make."
            )
        super().__init__(environment, human)
        self.metadata["name"] = type(environment).__name__
        self._agent_of = {f"{agent}_0": agent for agent in environment.agents}
        self.possible_agents = list(self._agent_of)
        self.agents: list[str] = []
        spaces = {name: environment.observation_space(agent) for name, agent in self._agent_of.items()}
        self.observation_spaces = {
            name: Dict({"text": space}) if isinstance(space, Text) else space for name, space in spaces.items()
        }
        self.action_spaces = {name: environment.action_space(agent) for name, agent in self._agent_of.items()}
        self._acting: list[str] = []
        """Agents that act next."""

    def observation_space(self, agent: str) -> Space:
        """Return the agent's observation space."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Space:
        """Return the agent's action space."""
        return self.action_spaces[agent]

    def observe(self, agent: str) -> Any:
        """Return the current observation of an agent."""
        self.environment.check_started()
        seen = self.environment.observe(self._agent_of[agent])
        return {"text": seen} if isinstance(seen, str) else seen

    def _begin(self, seed: int | None, options: Options) -> StepResult:
        ignored = options if isinstance(options, Mapping) else ()  # PettingZoo's own tests pass keys that nothing reads
        check_reset_options(self.environment, options, *ignored)
        self.agents = list(self.possible_agents)
        return self._wait(checked_reset(self.environment, seed=seed, options=options))

    def _rewards(self, result: StepResult) -> dict[str, float]:
        return {name: float(result.rewards.get(agent, 0.0)) for name, agent in self._agent_of.items()}

    def _flags(self, ended: dict[AgentId, bool]) -> dict[str, bool]:
        return {name: bool(ended.get(agent, False)) for name, agent in self._agent_of.items()}

    def _infos(self, result: StepResult) -> dict[str, dict[str, Any]]:
        """Return the ``info`` for each agent, and note the agents that act next."""
        self._acting = [name for name, agent in self._agent_of.items() if agent in result.observations]
        return {name: {**result.info, "acts": name in self._acting} for name in self.possible_agents}


class ParallelAdapter(_SeatedEnv, ParallelEnv):
    """An environment, which must define ``observe(agent)``, with PettingZoo's parallel API."""

    def reset(self, seed: int | None = None, options: Options = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; ``options={"task": ...}`` fixes the problem."""
        infos = self._infos(self._begin(seed, options))
        return self._look(), infos

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Step the environment with the actions of the agents that act. A missing action counts as no answer."""
        self.environment.check_started()
        if not self.agents:
            return {}, {}, {}, {}, {}
        if unknown := set(actions) - set(self.possible_agents):
            raise unknown_name("agent", min(unknown), self.possible_agents)
        acted = {self._agent_of[name]: actions[name] for name in self._acting if name in actions}
        result = self._wait(checked_step(self.environment, acted))
        seen, infos = self._look(), self._infos(result)
        if result.done:
            self.agents = []
        return seen, self._rewards(result), self._flags(result.terminated), self._flags(result.truncated), infos

    def _look(self) -> dict[str, Any]:
        return {name: self.observe(name) for name in self.possible_agents}


class AECAdapter(_SeatedEnv, AECEnv):
    """An environment, which must define ``observe(agent)``, with PettingZoo's agent-environment-cycle API.

    Agents that act at the same time choose their actions one after the other. Then the environment is stepped.
    """

    def __init__(self, environment: Environment, human: bool = False) -> None:
        super().__init__(environment, human)
        self.metadata["is_parallelizable"] = False
        self.agent_selection: str = self.possible_agents[0]
        self._chosen: dict[AgentId, Any] = {}

    def reset(self, seed: int | None = None, options: Options = None) -> None:
        """Start an episode; ``options={"task": ...}`` fixes the problem."""
        result = self._begin(seed, options)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self._take(result)

    def step(self, action: Any) -> None:
        """Take the action of ``agent_selection``. It must be ``None`` once the episode has ended."""
        self.environment.check_started()
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._chosen[self._agent_of[agent]] = action
        if len(self._chosen) < len(self._acting):
            self.agent_selection = self._acting[len(self._chosen)]
            self._clear_rewards()
            return
        self._take(self._wait(checked_step(self.environment, self._chosen)))
        self._accumulate_rewards()
        self._deads_step_first()

    def _take(self, result: StepResult) -> None:
        self._chosen = {}
        self.rewards, self.infos = self._rewards(result), self._infos(result)
        self.terminations, self.truncations = self._flags(result.terminated), self._flags(result.truncated)
        self.agent_selection = (self._acting or self.agents)[0]
