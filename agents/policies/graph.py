"""A policy that reads a search tree with a graph transformer (GPS, Rampasek et al. 2022, arXiv 2205.12454)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.policies.actor_critic import ActorCritic, Arrays, NetworkPolicy
from agents.policies.network_config import GraphPolicyConfig
from agents.trajectory import Decision
from reason_envs.core import Environment
from reason_envs.envs.reason_tree.observation import FEATURES
from reason_envs.errors import ReasonEnvsError

KEYS = ("nodes", "parents", "depths", "node_mask", "current", "action_mask")
"""Names of the arrays in a tree observation (see ``reason_envs.envs.reason_tree.observation``)."""
STEP_PROBABILITY = FEATURES.index("probability")


def no_tree(environment: str, given: str) -> ReasonEnvsError:
    """Return the error for an environment whose observations, described by ``given``, are not trees."""
    return ReasonEnvsError(
        f"policy=graph needs an environment with a tree observation (a Dict of {', '.join(KEYS)}), but {environment} "
        f"returns {given}: use policy=language, or policy=mlp if observations have a fixed size."
    )


@dataclass(frozen=True)
class TreeShape:
    """Sizes of an environment's trees and actions."""

    features: int
    """Number of features per node."""
    actions: int
    """Number of actions."""
    max_depth: int
    """Maximum depth of a node."""


@dataclass(frozen=True)
class Forest:
    """A batch of trees without padding: M nodes, E directed edges."""

    nodes: Tensor
    """Features and return probabilities of each node, [M, F + walk_length / 2]."""
    depths: Tensor
    """Depth of each node, [M], integers."""
    tree: Tensor
    """Index of the tree that each node belongs to, [M]."""
    edge_index: Tensor
    """Source and target node of each edge, [2, E]; every edge occurs in both directions."""
    edge_attr: Tensor
    """Depth of the target minus depth of the source, and the step probability of the deeper node, [E, 2]."""
    current: Tensor
    """Index of the current node of each tree, [B]."""
    counts: Tensor
    """Number of nodes in each tree, [B]."""


class GPSNetwork(ActorCritic):
    """Computes the logits of the actions and the value of each tree observation in a batch.

    The readout consists of the current node's state, the mean over the tree and the action mask. Actor and critic are
    linear. Without dropout, sampling and training compute the same function.
    """

    def __init__(self, shape: TreeShape, config: GraphPolicyConfig) -> None:
        super().__init__()
        self.shape = shape
        self.config = config
        channels = config.channels
        self.embed = nn.Linear(shape.features + config.walk_length // 2, channels)
        self.depth = nn.Embedding(shape.max_depth + 1, channels)
        self.layers = nn.ModuleList(_gps_layer(config) for _ in range(config.layers))
        self.readout_size = 2 * channels + shape.actions
        self.actor = nn.Linear(self.readout_size, shape.actions)
        self.critic = nn.Linear(self.readout_size, 1)
        # With the usual unit variance, the depth would dominate the features.
        nn.init.normal_(self.depth.weight, std=0.02)
        # A small actor starts near the uniform distribution over the legal actions.
        nn.init.orthogonal_(self.actor.weight, gain=0.01)
        nn.init.zeros_(self.actor.bias)

    def readout(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the features that actor and critic read, [B, readout_size]."""
        forest = build_forest(observation, self.shape.features, self.config.walk_length)
        states = self.embed(forest.nodes) + self.depth(forest.depths)
        for layer in self.layers:
            states = layer(states, forest.edge_index, forest.tree, edge_attr=forest.edge_attr)
        sums = states.new_zeros(len(forest.counts), self.config.channels).index_add(0, forest.tree, states)
        mean = sums / forest.counts[:, None]
        return torch.cat([states[forest.current], mean, observation["action_mask"]], dim=-1)


def build_forest(observation: Mapping[str, Tensor], features: int, walk_length: int) -> Forest:
    """Remove the padding from a batch of observations and connect parents with children."""
    counts = observation["node_mask"].sum(-1).long()
    width = int(counts.max())
    mask = observation["node_mask"][:, :width] > 0
    parents = observation["parents"][:, :width].long()
    nodes = observation["nodes"].unflatten(-1, (-1, features))[:, :width]
    first = counts.cumsum(0) - counts  # index of each tree's root
    tree, child = torch.where(mask & (parents >= 0))
    parent = parents[tree, child]
    lower, upper = first[tree] + child, first[tree] + parent
    probability = nodes[tree, child, STEP_PROBABILITY]
    up = torch.ones_like(probability)
    walks = return_probabilities(tree, child, parent, mask.shape, walk_length)
    return Forest(
        nodes=torch.cat([nodes[mask], walks[mask]], dim=-1),
        depths=observation["depths"][:, :width].long()[mask],
        tree=torch.repeat_interleave(counts),
        edge_index=torch.stack([torch.cat([lower, upper]), torch.cat([upper, lower])]),
        edge_attr=torch.stack([torch.cat([-up, up]), probability.repeat(2)], dim=-1),
        current=first + observation["current"].squeeze(-1).long(),
        counts=counts,
    )


def return_probabilities(tree: Tensor, child: Tensor, parent: Tensor, size: torch.Size, walk_length: int) -> Tensor:
    """Return the probability that a random walk from each node is back at the node after 2, 4, ... steps.

    The symmetrically normalised adjacency S is similar to the transition matrix of the walk. So the probabilities are
    the diagonals of its powers, and the diagonal of the power 2k is the row sums of the squares of S^k.

    Args:
        tree: index of the tree of each edge, [E].
        child: index of the deeper node of each edge within its tree, [E].
        parent: index of the other node of each edge, [E].
        size: number of trees and nodes, [B, N].
        walk_length: maximum number of steps.

    Returns:
        Probabilities [B, N, walk_length / 2]; 0 for a root without children and for padding.
    """
    step = torch.zeros(*size, size[-1], device=tree.device)
    step[tree, child, parent] = 1.0
    step[tree, parent, child] = 1.0
    scale = step.sum(-1).clamp(min=1).rsqrt()
    step = step * scale[:, :, None] * scale[:, None, :]
    power, result = step, [step.square().sum(-1)]
    for _ in range(walk_length // 2 - 1):
        power = power @ step
        result.append(power.square().sum(-1))
    return torch.stack(result, dim=-1)


def _gps_layer(config: GraphPolicyConfig) -> nn.Module:
    from torch_geometric.nn import GINEConv, GPSConv

    channels = config.channels
    mlp = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
    # By default PyG's layer norm covers the whole graph.
    norm, options = ("layer_norm", {"mode": "node"}) if config.norm == "layer" else ("graph_norm", {})
    conv = GINEConv(mlp, edge_dim=2) if config.local else None
    layer = GPSConv(channels, conv, heads=config.heads, norm=norm, norm_kwargs=options)
    if not config.global_attention:
        # Attention with zero weights adds nothing to its residual branch.
        for parameter in layer.attn.parameters():
            nn.init.zeros_(parameter).requires_grad_(False)
    if conv is None:
        layer.norm1 = None
    return layer


class GraphPolicy(NetworkPolicy):
    """A policy with a GPS network. It stores trees without padding."""

    config: GraphPolicyConfig
    config_class = GraphPolicyConfig
    network_class = GPSNetwork
    kind = "graph"

    def shape_of(self, environment: Environment) -> TreeShape:
        """Return the shape of the trees in the observation space.

        Raises:
            ReasonEnvsError: the observations are not trees.
        """
        space: Any = environment.observation_space(environment.agents[0])
        if not isinstance(space, spaces.Dict) or any(key not in space.spaces for key in KEYS):
            raise no_tree(type(environment).__name__, "text" if isinstance(space, spaces.Text) else str(space))
        sizes = {key: spaces.flatdim(space[key]) for key in KEYS}
        depth = int(space["depths"].high.max())  # type: ignore[attr-defined]
        return TreeShape(sizes["nodes"] // sizes["node_mask"], sizes["action_mask"], depth)

    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Remove the padding from an observation, so that stored decisions are small."""
        if not isinstance(observation, Mapping) or any(key not in observation for key in KEYS):
            raise no_tree(type(environment).__name__, f"an observation of type {type(observation).__name__}")
        nodes = int(observation["node_mask"].sum())
        sizes = {"nodes": nodes * self.shape.features, "parents": nodes, "depths": nodes, "node_mask": nodes}
        return {key: observation[key][: sizes.get(key)].copy() for key in KEYS}

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return the number of nodes in each decision's tree."""
        return [len(d.observation["node_mask"]) for d in decisions]
