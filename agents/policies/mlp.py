"""A multi-layer perceptron as a policy: it reads flattened observations of a fixed size and chooses one action."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.policies.actor_critic import ActorCritic, Arrays, NetworkPolicy
from agents.policies.network_config import MLPPolicyConfig
from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError

FLAT, MASK = "flat", "action_mask"
"""Names of the arrays that are stored for an observation."""


@dataclass(frozen=True)
class ArrayShape:
    """Sizes of an environment's observations and actions."""

    numbers: int
    """Number of values in a flattened observation."""
    actions: int
    """Number of actions."""


class MLPNetwork(ActorCritic):
    """Hidden layers with tanh, followed by actor and critic."""

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
        """Return the last hidden layer for the array ``flat``, [B, width]."""
        return self.body(observation[FLAT])


class MLPPolicy(NetworkPolicy):
    """A policy for any environment with observations of a fixed size and numbered actions.

    It never chooses an illegal action: the mask is the ``action_mask`` of a ``Dict`` observation, or the result of the
    environment's ``action_masks()``.
    """

    config: MLPPolicyConfig
    config_class = MLPPolicyConfig
    network_class = MLPNetwork
    kind = "mlp"

    def shape_of(self, environment: Environment) -> ArrayShape:
        """Return the shape of the spaces, which must be equal for all agents.

        Raises:
            ReasonEnvsError: observations do not have a fixed size, or actions are not numbered from 0.
        """
        found = [(environment.observation_space(a), environment.action_space(a)) for a in environment.agents]
        if any(pair != found[0] for pair in found):
            raise ReasonEnvsError(
                f"policy=mlp plays all agents with one network, so their spaces must be equal: {found}."
            )
        self._space, action = found[0]
        if not _fixed_size(self._space):
            shown = "text" if isinstance(self._space, spaces.Text) else self._space
            raise ReasonEnvsError(
                f"policy=mlp needs observations of a fixed size (Box, Discrete, MultiDiscrete, MultiBinary, or a Dict "
                f"of these), not {shown}: use policy=language."
            )
        if not isinstance(action, spaces.Discrete) or action.start != 0:
            raise ReasonEnvsError(
                f"policy=mlp needs a Discrete action space that starts at 0, not {action}: number the actions from 0, "
                "or use policy=language."
            )
        return ArrayShape(spaces.flatdim(self._space), int(action.n))

    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Flatten an observation, and add the mask of legal actions."""
        if isinstance(observation, Mapping) and MASK in observation:
            mask = observation[MASK]
        else:
            mask = environment.action_masks()
        flat = np.asarray(spaces.flatten(self._space, observation), np.float32)
        return {FLAT: flat, MASK: np.array(mask, np.float32)}


def _fixed_size(space: Space) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_fixed_size(part) for part in space.spaces.values())
    return isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
