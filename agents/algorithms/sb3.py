"""Stable-Baselines3's PPO, with and without action masks, on our environments and networks.

Stable-Baselines3 plays ``n_steps`` actions in each of ``n_envs`` environments, across the ends of episodes, and then
trains for ``n_epochs`` passes. It trains the network of our policy (``graph`` or ``mlp``) in place, so that evaluation,
search and saved files are the same as for our learners. Two differences remain. A resumed run continues with the same
weights, optimizer and random draws, but starts new episodes. And Stable-Baselines3 draws from the global random
generators of the process, which are seeded for each training step and restored afterwards.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Self

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Dict
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed
from torch import Tensor

from agents import distributed
from agents.algorithms.config import check_discount
from agents.algorithms.options import SB3PPOConfig
from agents.policies.actor_critic import ActorCritic, NetworkPolicy
from agents.policies.mlp import FLAT, MLPNetwork
from agents.policies.seeding import seeded
from agents.rollout.episodes import numbers
from agents.trajectory import Decision, Trajectory
from reason_envs.adapters.sb3 import ReasonVecEnv
from reason_envs.core import Environment, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.spaces import UnicodeText
from reason_envs.tasks.base import TaskSet

METRICS = {
    "train/loss": "loss",
    "train/policy_gradient_loss": "policy_loss",
    "train/value_loss": "value_loss",
    "train/approx_kl": "approx_kl",
    "train/clip_fraction": "clip_frac",
    "train/explained_variance": "explained_variance",
}
"""Our name of each metric by Stable-Baselines3's name."""


class NetworkFeatures(BaseFeaturesExtractor):
    """A policy's network without its heads. A multi-layer perceptron reads the concatenated parts of an observation."""

    def __init__(self, observation_space: Space, network: ActorCritic) -> None:
        super().__init__(observation_space, network.readout_size)
        self.network = network

    def forward(self, observations: Any) -> Tensor:
        """Return the features that actor and critic read, [B, readout_size]."""
        if isinstance(self.network, MLPNetwork):
            space = self._observation_space
            parts = [observations[key] for key in space.spaces] if isinstance(space, Dict) else [observations]
            observations = {FLAT: torch.cat([part.float().flatten(1) for part in parts], dim=1)}
        return self.network.readout(observations)

    def train(self, mode: bool = True) -> Self:
        """Stay in training mode as our policies do, since evaluation mode rounds differently."""
        return super().train(True)


class SB3PPO:
    """Runs ``stable_baselines3.PPO`` in our training loop, with the arguments of a `Learner` and in its place.

    The policy must be ``policy=graph`` or ``policy=mlp``. The algorithm also samples illegal actions, and learns from
    their penalty to avoid them.
    """

    algorithm: Any = PPO

    def __init__(
        self,
        config: SB3PPOConfig,
        policy: NetworkPolicy,
        environment: Environment,
        tasks: TaskSet,
        *,
        total_steps: int,
        seed: int,
    ) -> None:
        _check(config, policy, environment)
        self.config = config
        self.policy = policy
        self.seed = seed
        self.environments = ReasonVecEnv(environment.fork(), config.n_envs)
        self.model = self._build()
        self.optimizer = SB3Optimizer(self.model.policy.optimizer)
        self._recorder = EpisodeRecorder(self.environments.agent, policy)
        self._started = False

    def _build(self) -> OnPolicyAlgorithm:
        config, network = self.config, self.policy.network
        theirs = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "n_envs"}
        with _random_numbers(derive_seed(self.seed, "sb3"), self.policy.device):
            model = self.algorithm(
                "MultiInputPolicy" if isinstance(self.environments.observation_space, Dict) else "MlpPolicy",
                self.environments,
                policy_kwargs={
                    "normalize_images": False,
                    "features_extractor_class": NetworkFeatures,
                    "features_extractor_kwargs": {"network": network},
                    "net_arch": [],
                    "ortho_init": False,
                },
                device=self.policy.device,
                **theirs,
            )
        # The heads, too, are those of the network, with its initial weights.
        model.policy.action_net, model.policy.value_net = network.actor, network.critic
        model.policy.optimizer = torch.optim.Adam(self.policy.parameters(), lr=config.learning_rate, eps=1e-5)
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model

    async def collect(self, step: int) -> list[Trajectory]:
        """Play ``n_steps`` actions in every environment; return the episodes that ended in them."""
        with _random_numbers(derive_seed(self.seed, "sb3", step, "collect"), self.policy.device):
            if not self._started:
                self.environments.seed(derive_seed(self.seed, "sb3", step, "episodes"))
                self.model._setup_learn(0, self._recorder)
                self._started = True
            self.model.collect_rollouts(
                self.environments, self._recorder, self.model.rollout_buffer, self.config.n_steps
            )
        ended, self._recorder.ended = self._recorder.ended, []
        if not ended:
            raise ReasonEnvsError(
                f"No episode ended within algo.n_steps={self.config.n_steps} actions: raise it, or lower env.max_steps."
            )
        return ended

    def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Train on the latest rollout and return metrics."""
        with _random_numbers(derive_seed(self.seed, "sb3", step, "update"), self.policy.device):
            self.model.train()
        self.optimizer.steps += 1
        logged = self.model.logger.name_to_value
        metrics = {ours: float(logged[theirs]) for theirs, ours in METRICS.items()}
        return {**metrics, "env_steps": float(self.config.n_envs * self.config.n_steps * self.optimizer.steps)}


class SB3MaskablePPO(SB3PPO):
    """Runs ``sb3_contrib.MaskablePPO``, which gives illegal actions probability 0."""

    algorithm = MaskablePPO


class SB3Optimizer:
    """Stable-Baselines3's optimizer with the interface that checkpoints need."""

    def __init__(self, adam: torch.optim.Optimizer) -> None:
        self._adam = adam
        self.steps = 0
        """Number of updates so far, each of many optimizer steps."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"adam": self._adam.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        self._adam.load_state_dict(state["adam"])
        self.steps = state["steps"]


class EpisodeRecorder(BaseCallback):
    """Records the decisions in each environment and returns the episodes that have ended."""

    def __init__(self, agent: str, policy: NetworkPolicy) -> None:
        super().__init__()
        self.ended: list[Trajectory] = []
        """Episodes that have ended since the last rollout."""
        self._agent = agent
        self._policy = policy
        self._open: dict[int, list[Decision]] = {}
        self._episodes = 0

    def _on_step(self) -> bool:
        parts = (self.locals[name] for name in ("actions", "log_probs", "rewards", "dones", "infos"))
        for slot, (action, log_prob, reward, done, info) in enumerate(zip(*parts, strict=True)):
            decisions = self._open.setdefault(slot, [])
            decisions.append(self._decision(slot, len(decisions), int(action), float(log_prob), float(reward)))
            if done:
                self._end(slot, info)
        return True

    def _decision(self, slot: int, turn: int, action: int, log_prob: float, reward: float) -> Decision:
        choice = self._policy.choice(action, log_prob, self._policy.sampling)
        return Decision(f"sb3/{slot}", self._agent, turn, choice, reward, group_id="")

    def _end(self, slot: int, info: Mapping[str, Any]) -> None:
        facts = dict(info)
        truncated = facts.pop("TimeLimit.truncated")  # Stable-Baselines3 adds it to the environment's info
        self._episodes += 1
        self.ended.append(
            Trajectory(
                task_id=info.get("task_id", ""),
                episode_id=f"sb3/{self._episodes}",
                decisions=self._open.pop(slot),
                terminated=not truncated,
                truncated=truncated,
                metrics=numbers(facts),
            )
        )


def _check(config: SB3PPOConfig, policy: Any, environment: Environment) -> None:
    if not isinstance(policy, NetworkPolicy):
        if isinstance(environment.observation_space(environment.agents[0]), UnicodeText):
            raise ReasonEnvsError(
                f"algo=sb3_... needs observations of a fixed size, but {type(environment).__name__} returns text: use "
                "algo=ppo, algo=grpo or algo=at_grpo."
            )
        raise ReasonEnvsError(
            f"algo=sb3_... cannot train {type(policy).__name__}: use policy=graph (trees) or policy=mlp (other "
            "arrays), or algo=ppo, algo=grpo or algo=at_grpo."
        )
    check_discount(config.gamma, environment)
    if distributed.size() > 1:
        raise ReasonEnvsError("Stable-Baselines3 trains in one process: start it without accelerate launch.")


@contextmanager
def _random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Return a context with seeded global random generators, which are restored afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (Stable-Baselines3 uses the legacy ones)
    with seeded(seed % 2**32, device):
        set_random_seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
