"""A graph network as a policy: it reads a search tree and chooses one action (a choice of one token)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.policies.actor_critic import Arrays, NetworkPolicy
from agents.policies.gps_network import KEYS, GPSNetwork, TreeShape, no_tree
from agents.policies.network_config import GraphPolicyConfig
from agents.trajectory import Decision
from reason_envs.core import Environment


class GraphPolicy(NetworkPolicy):
    """A policy with a GPS network. It stores trees without padding."""

    config: GraphPolicyConfig
    config_class = GraphPolicyConfig
    kind = "graph"

    def shape_of(self, environment: Environment) -> TreeShape:
        """Return the shape of the trees in the observation space."""
        return TreeShape.of(environment.observation_space(environment.agents[0]), type(environment).__name__)

    def build(self) -> GPSNetwork:
        """Return a new network for trees of this shape."""
        return GPSNetwork(self.shape, self.config)

    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Remove the padding from an observation, so that stored decisions are small."""
        if not isinstance(observation, Mapping) or any(key not in observation for key in KEYS):
            raise no_tree(type(environment).__name__, f"an observation of type {type(observation).__name__}")
        nodes = int(observation["node_mask"].sum())
        sizes = {"nodes": nodes * self.shape.features, "parents": nodes, "depths": nodes, "node_mask": nodes}
        return {key: observation[key][: sizes.get(key)].copy() for key in KEYS}

    def collate(self, observations: Sequence[Arrays]) -> dict[str, Tensor]:
        """Stack trees of different sizes."""
        return collate(observations, self.device)

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return the number of nodes in each decision's tree."""
        return [len(d.observation["node_mask"]) for d in decisions]


def collate(observations: Sequence[Arrays], device: torch.device) -> dict[str, Tensor]:
    """Stack trees of different sizes, padded to the largest, into the network's input."""
    counts = np.array([len(o["node_mask"]) for o in observations])
    mask = np.arange(counts.max()) < counts[:, None]

    def padded(key: str, empty: float = 0.0) -> np.ndarray:
        values = np.concatenate([o[key] for o in observations]).reshape(counts.sum(), -1)
        rows = np.full((*mask.shape, values.shape[-1]), empty, np.float32)
        rows[mask] = values
        return rows.reshape(len(rows), -1)

    arrays = {
        "nodes": padded("nodes"),
        "parents": padded("parents", empty=-1.0),
        "depths": padded("depths"),
        "node_mask": mask.astype(np.float32),
        "current": np.stack([o["current"] for o in observations]),
        "action_mask": np.stack([o["action_mask"] for o in observations]),
    }
    return {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
