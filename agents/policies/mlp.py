"""A plain network as a policy: it reads observations of a fixed size, flattened, and draws one action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.policies.actor_critic import ActorCritic, Arrays, NetworkPolicy
from agents.trajectory import Decision
from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError

FLAT, MASK = "flat", "action_mask"
"""The parts of what is stored of an observation."""


@dataclass
class MLPPolicyConfig:
    """Options of ``policy=mlp``."""

    width: int = 64
    """Units of a hidden layer."""
    layers: int = 2
    """Hidden layers."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1:
            raise ReasonEnvsError(f"policy.width={self.width}, layers={self.layers}: each must be at least 1.")


@dataclass(frozen=True)
class ArrayShape:
    """What the network must know of an environment."""

    numbers: int
    """Of a flattened observation."""
    actions: int
    """Actions to choose from."""

    @classmethod
    def of(cls, observation: Space, action: Space) -> ArrayShape:
        """Read the shape from the spaces.

        Raises:
            ReasonEnvsError: observations have no fixed size, or actions are not numbered from 0.
        """
        if not _fixed_size(observation):
            shown = "text" if isinstance(observation, spaces.Text) else observation
            raise ReasonEnvsError(
                f"policy=mlp needs observations of a fixed size (Box, Discrete, MultiDiscrete, MultiBinary, or a Dict "
                f"of these), not {shown}: use policy=language."
            )
        if not isinstance(action, spaces.Discrete) or action.start != 0:
            raise ReasonEnvsError(
                f"policy=mlp draws one of the actions 0, 1, ... (Discrete), not of {action}: number them so, or use "
                "policy=language."
            )
        return cls(spaces.flatdim(observation), int(action.n))


class MLPNetwork(ActorCritic):
    """Hidden layers with tanh, then actor and critic.

    Args:
        shape: of observations and actions.
        config: options.
    """

    def __init__(self, shape: ArrayShape, config: MLPPolicyConfig) -> None:
        super().__init__()
        sizes = [shape.numbers, *[config.width] * config.layers]
        layers = [(nn.Linear(*pair), nn.Tanh()) for pair in pairwise(sizes)]
        self.body = nn.Sequential(*(part for layer in layers for part in layer))
        self.readout_size = config.width
        self.actor = nn.Linear(config.width, shape.actions)
        self.critic = nn.Linear(config.width, 1)
        # A small actor starts near the uniform distribution over the legal actions.
        nn.init.orthogonal_(self.actor.weight, gain=0.01)
        nn.init.zeros_(self.actor.bias)

    def readout(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the last hidden layer of the part ``flat``, [B, width]."""
        return self.body(observation[FLAT])


class MLPPolicy(NetworkPolicy):
    """A policy for any environment whose observations have a fixed size and whose actions are numbered.

    Illegal actions are never drawn where the observation is a ``Dict`` with an ``action_mask``, or the environment has
    a method ``action_masks``.
    """

    config: MLPPolicyConfig
    config_class = MLPPolicyConfig
    kind = "mlp"

    def shape_of(self, environment: Environment) -> ArrayShape:
        """Read the shape from the spaces, which all agents must share."""
        found = [(environment.observation_space(a), environment.action_space(a)) for a in environment.agents]
        if any(pair != found[0] for pair in found):
            raise ReasonEnvsError(f"policy=mlp plays all agents with one network, and their spaces differ: {found}.")
        self._space = found[0][0]
        return ArrayShape.of(*found[0])

    def build(self) -> MLPNetwork:
        """Return a new network for observations of this shape."""
        return MLPNetwork(self.shape, self.config)

    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Flatten an observation, and note which actions are legal."""
        if isinstance(observation, Mapping) and MASK in observation:
            mask = observation[MASK]
        else:
            mask = environment.action_masks()
        flat = np.asarray(spaces.flatten(self._space, observation), np.float32)
        return {FLAT: flat, MASK: np.asarray(mask, np.float32)}

    def collate(self, observations: Sequence[Arrays]) -> dict[str, Tensor]:
        """Stack observations."""
        return {
            key: torch.from_numpy(np.stack([o[key] for o in observations])).to(self.device) for key in ("flat", MASK)
        }

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return 1 for each decision: an observation is a row."""
        return [1] * len(decisions)


def _fixed_size(space: Space) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_fixed_size(part) for part in space.spaces.values())
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
