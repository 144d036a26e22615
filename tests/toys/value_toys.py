"""A small environment with array observations and a small policy with values, for tests of learners and runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from safetensors.torch import save_file
from torch import nn

from agents.policies.base import Evaluation, TrainablePolicy
from agents.trajectory import Choice
from reason_envs.core import Environment, StepResult, derive_seed
from reason_envs.envs.task_environment import choose_task
from reason_envs.llm.engine import Sampling
from reason_envs.llm.sampling import TokenSampler, uniforms
from reason_envs.tasks import make


@dataclass
class SignalConfig:
    tasks: object = field(default_factory=lambda: {"name": "chain_sum"})
    """Tasks of the episodes; only their number matters."""
    split: str = "train"
    """Split of the tasks."""
    turns: int = 4
    """Number of signals per episode."""
    truncate: bool = False
    """Whether episodes end by truncation instead of termination."""


@dataclass
class SignalState:
    seed: int
    turn: int = 0
    hits: int = 0


class Signals(Environment):
    """Shows one of three signals per turn and pays 1 for naming it."""

    agents = ("watcher",)

    def __init__(self, config=None):
        self.config = config or SignalConfig()
        self.tasks = make(self.config.tasks, self.config.split)
        self._observation_space = Box(0.0, 1.0, (4,), np.float32)
        self._action_space = Discrete(3)

    def observation_space(self, agent):
        return self._observation_space

    def action_space(self, agent):
        return self._action_space

    @property
    def signal(self):
        return derive_seed(self.state.seed, self.state.turn) % 3

    def observe(self):
        observation = np.zeros(4, np.float32)
        observation[self.signal] = 1.0
        observation[3] = self.state.turn / self.config.turns
        return observation

    async def reset(self, *, seed=None, options=None):
        self.state = SignalState(self.episode_seed(seed))
        self.task = choose_task(self.tasks, self.state.seed, options)
        return StepResult({"watcher": self.observe()})

    async def step(self, actions):
        hit = actions["watcher"] == self.signal
        self.state.turn += 1
        self.state.hits += hit
        rewards = {"watcher": float(hit)}
        if self.state.turn < self.config.turns:
            return StepResult({"watcher": self.observe()}, rewards)
        ended = {"watcher": True}
        ends = {"truncated": ended} if self.config.truncate else {"terminated": ended}
        info = {"correct": self.state.hits == self.config.turns, "generated_tokens": 10, "reward_model_tokens": 3}
        return StepResult({}, rewards, final_observations={"watcher": self.observe()}, info=info, **ends)

    def render_messages(self, observation):
        return [{"role": "user", "content": f"signal {int(observation[:3].argmax())}"}]

    def parse_action(self, text):
        return int(text) if text.isdigit() else -1

    def render(self):
        return f"{self.state.hits} hits" if self.render_mode == "ansi" else None


@dataclass
class ValuePolicyConfig:
    width: int = 16
    """Number of hidden units."""


class ValuePolicy(TrainablePolicy):
    """A network of one hidden layer with an action head and a value head."""

    device = torch.device("cpu")
    max_tokens = 1

    def __init__(self, config, *, seed=0, environment):
        self.sampling = Sampling(1)
        size = environment.observation_space(environment.agents[0]).shape[0]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.Linear(size, config.width), nn.Tanh(), nn.Linear(config.width, 4))

    def observe(self, environment, observation):
        return observation

    async def act(self, observations, seeds, sampling=None, *, agents):
        sampling = sampling or self.sampling
        with torch.no_grad():
            logits = self.network(torch.from_numpy(np.stack(observations)))[:, :3]
        draws = uniforms(np.array(seeds, np.uint64), np.zeros(len(seeds), np.uint64))
        actions, log_probs = TokenSampler([sampling] * len(seeds), self.device)(logits, draws)
        rows = zip(actions.tolist(), log_probs.tolist(), strict=True)
        return [Choice([a], [p], sampling, "stop", self.version, [], f"signal {a}") for a, p in rows]

    def action(self, environment, choice):
        return choice.token_ids[0]

    def evaluate(self, decisions, *, entropy_gradient=False):
        out = self.network(torch.from_numpy(np.stack([d.observation for d in decisions])))
        log_probs = torch.log_softmax(out[:, :3], dim=-1)
        chosen = torch.tensor([d.choice.token_ids for d in decisions])
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
        mask = torch.ones_like(chosen, dtype=torch.bool)
        return Evaluation(log_probs.gather(-1, chosen), entropy, mask, out[:, 3:])

    def prepare_values(self):
        """Do nothing: the network always has values."""

    def named_parameters(self):
        return self.network.named_parameters()

    def save_pretrained(self, folder):
        folder.mkdir(parents=True)
        save_file(self.state_tensors(), folder / "model.safetensors")
