"""Stable-Baselines3's PPO, with and without action masks, on our environments and networks.

Stable-Baselines3 plays ``n_steps`` actions in each of ``n_envs`` environments, across the ends of episodes, and then
trains for ``n_epochs`` passes. It trains the network of our policy (``graph`` or ``mlp``) in place, so that evaluation,
search and saved files are the same as for our learners. Stable-Baselines3 draws from the global random generators of
the process, which are seeded for each training step and restored afterwards. Checkpoints hold the actions of the open
episodes; a resumed run repeats them and then continues the episodes.
"""

import logging
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
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from agents import distributed
from agents.algorithms.config import check_discount
from agents.algorithms.options import SB3PPOConfig
from agents.algorithms.sb3_episodes import EpisodeRecorder, Played
from agents.policies.actor_critic import ActorCritic, NetworkPolicy
from agents.policies.mlp import FLAT, MLPNetwork
from agents.policies.seeding import seeded
from agents.trajectory import Trajectory
from reason_envs.adapters.sb3 import ReasonVecEnv
from reason_envs.core import Environment, derive_seed
from reason_envs.errors import ReasonEnvsError
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
CPU = torch.device("cpu")
ROUNDING = 0.05
"""Maximum difference, absolute and relative, between equal observations that models computed in other batches."""
_log = logging.getLogger(__name__)


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
        if not isinstance(policy, NetworkPolicy):
            raise ReasonEnvsError(
                f"algo=sb3_... cannot train {type(policy).__name__}: use policy=graph (trees) or policy=mlp (other "
                "arrays of a fixed size). For text use algo=ppo, algo=grpo or algo=at_grpo."
            )
        check_discount(config.gamma, environment)
        if distributed.size() > 1:
            raise ReasonEnvsError("Stable-Baselines3 trains in one process: start it without accelerate launch.")
        self.config = config
        self.policy = policy
        self.seed = seed
        self.environments = ReasonVecEnv(environment.fork(), config.n_envs)
        self.model = self._build()
        self.optimizer = self  # checkpoints store its state
        self.steps = 0
        """Number of updates so far, each of many optimizer steps."""
        self._recorder = EpisodeRecorder(self.environments.agent, policy, config.n_envs)
        self._episode_seed: int | None = None
        self._episodes: dict[str, Any] | None = None  # of a checkpoint or after the latest update

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
            if self._episode_seed is None:
                self._begin(step)
            buffer = self.model.rollout_buffer
            self.model.collect_rollouts(self.environments, self._recorder, buffer, self.config.n_steps)
        ended, self._recorder.ended = self._recorder.ended, []
        if not ended:
            raise ReasonEnvsError(
                f"No episode ended within algo.n_steps={self.config.n_steps} actions: raise it, or lower env.max_steps."
            )
        return ended

    def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Train on the latest rollout and return metrics."""
        self.steps += 1  # first: after an error in `train`, the weights are those of no step
        with _random_numbers(derive_seed(self.seed, "sb3", step, "update"), self.policy.device):
            self.model.train()
        self._episodes = {
            "seed": self._episode_seed,
            "played": self._recorder.played(),
            "observations": obs_as_tensor(self.model._last_obs, CPU),  # type: ignore[arg-type]
        }
        logged = self.model.logger.name_to_value
        metrics = {ours: float(logged[theirs]) for theirs, ours in METRICS.items()}
        return {**metrics, "env_steps": float(self.config.n_envs * self.config.n_steps * self.steps)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer and of the episodes after the latest update."""
        return {"adam": self.model.policy.optimizer.state_dict(), "steps": self.steps, "episodes": self._episodes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        self.model.policy.optimizer.load_state_dict(state["adam"])
        self.steps, self._episodes = state["steps"], state.get("episodes")  # older checkpoints have no episodes

    def _begin(self, step: int) -> None:
        """Continue the episodes of a checkpoint, or else start new ones."""
        if self._episodes is None or not self._repeat(**self._episodes):
            self._episode_seed = derive_seed(self.seed, "sb3", step, "episodes")
            self.environments.seed(self._episode_seed)
        self.model._setup_learn(0, self._recorder, reset_num_timesteps=False)  # resets environments without observation

    def _repeat(self, seed: int, played: Sequence[Mapping[str, Any]], observations: Any) -> bool:
        """Repeat the actions of a checkpoint; return whether the environments gave the same observations again."""
        slots = [Played(s["ended"], [*s["past"]], [*s["open"]]) for s in played]
        self.environments.seed(seed)
        again: Any = self.environments.replay([slot.repeated() for slot in slots])
        try:
            torch.testing.assert_close(obs_as_tensor(again, CPU), observations, rtol=ROUNDING, atol=ROUNDING)
        except AssertionError:
            _log.warning(
                "The open episodes of the checkpoint could not be repeated, since an engine, a reward model or the "
                "environment gave other answers. New episodes start, so this run differs from an uninterrupted one."
            )
            return False
        self._episode_seed, self._recorder.slots, self.model._last_obs = seed, slots, again
        self.model._last_episode_starts = np.array([not slot.open for slot in slots])
        return True


class SB3MaskablePPO(SB3PPO):
    """Runs ``sb3_contrib.MaskablePPO``, which gives illegal actions probability 0."""

    algorithm = MaskablePPO


@contextmanager
def _random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of PyTorch and NumPy within a context, and restore them afterwards."""
    numpy = np.random.get_state()  # noqa: NPY002  (Stable-Baselines3 uses the legacy generator)
    with seeded(seed % 2**32, device):
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy)  # noqa: NPY002
