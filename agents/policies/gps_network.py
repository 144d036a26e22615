"""A graph transformer (GPS, Rampasek et al. 2022, arXiv 2205.12454) over batches of search trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from agents.policies.actor_critic import ActorCritic
from reason_envs.envs.reason_tree.observation import FEATURES
from reason_envs.errors import ReasonEnvsError, unknown_name

KEYS = ("nodes", "parents", "depths", "node_mask", "current", "action_mask")
"""The parts of a tree observation (see ``reason_envs.envs.reason_tree.observation``)."""
NORMS = ("layer", "graph")
STEP_PROBABILITY = FEATURES.index("probability")


@dataclass
class GPSNetworkConfig:
    """Options of the network; the defaults suit trees of tens of nodes on a CPU."""

    channels: int = 32
    """Width of a node's state."""
    layers: int = 2
    """GPS layers."""
    heads: int = 2
    """Attention heads; they divide ``channels``."""
    norm: str = "layer"
    """``layer`` (each node by itself) or ``graph`` (over the nodes of a tree)."""
    local: bool = True
    """Pass messages along the tree's edges."""
    global_attention: bool = True
    """Let every node attend to all nodes of its tree."""
    walk_length: int = 8
    """Longest random walk of the positional encoding, in steps; even, as no walk on a tree returns in an odd number."""

    def __post_init__(self) -> None:
        if self.norm == "batch":
            raise ReasonEnvsError(
                "norm=batch would break the policy ratios: its outputs differ between sampling and training, and with "
                "who else is in the batch. Use norm=layer or norm=graph."
            )
        if self.norm not in NORMS:
            raise unknown_name("norm", self.norm, NORMS)
        if self.layers < 1 or self.heads < 1 or self.channels < 1 or self.channels % self.heads:
            raise ReasonEnvsError(
                f"channels={self.channels}, heads={self.heads}, layers={self.layers}: each must be at least 1, and "
                "channels a multiple of heads."
            )
        if self.walk_length < 2 or self.walk_length % 2:
            raise ReasonEnvsError(f"walk_length={self.walk_length} must be even and at least 2.")


def no_tree(environment: str, given: str) -> ReasonEnvsError:
    """Build the error for an environment that shows no tree, but what is given."""
    return ReasonEnvsError(
        f"policy=graph needs an environment with a tree observation (a Dict of {', '.join(KEYS)}), and {environment} "
        f"shows {given}: use policy=language, or policy=mlp where observations have a fixed size."
    )


@dataclass(frozen=True)
class TreeShape:
    """What the network must know of the trees."""

    features: int
    """Numbers a node."""
    actions: int
    """Actions to choose from."""
    max_depth: int
    """Depth of the deepest node."""

    @classmethod
    def of(cls, space: Space, environment: str = "this one") -> TreeShape:
        """Read the shape from an observation space of an environment, whose name an error tells.

        Raises:
            ReasonEnvsError: the space is none of trees.
        """
        if not isinstance(space, spaces.Dict) or any(key not in space.spaces for key in KEYS):
            raise no_tree(environment, "text" if isinstance(space, spaces.Text) else str(space))
        sizes = {key: spaces.flatdim(space[key]) for key in KEYS}
        depths = space["depths"]
        assert isinstance(depths, spaces.Box)
        return cls(sizes["nodes"] // sizes["node_mask"], sizes["action_mask"], int(depths.high.max()))


@dataclass(frozen=True)
class Forest:
    """A batch of trees without padding: M nodes, E directed edges."""

    nodes: Tensor
    """Features and return probabilities, [M, F + walk_length / 2]."""
    depths: Tensor
    """[M], integers."""
    tree: Tensor
    """Which tree each node belongs to, [M]."""
    edge_index: Tensor
    """Source and target nodes, [2, E]: every edge in both directions."""
    edge_attr: Tensor
    """Depth of the target less the source's, and the step probability of the lower node, [E, 2]."""
    current: Tensor
    """Each tree's current node, [B]."""
    counts: Tensor
    """Nodes of each tree, [B]."""


class GPSNetwork(ActorCritic):
    """Reads batches of tree observations; returns the logits of the actions and the value of each tree.

    The readout is the current node's state, the mean over the tree and the action mask; actor and critic are linear.
    There is no dropout: sampling and training see the same function.

    Args:
        shape: of the trees.
        config: options.
    """

    def __init__(self, shape: TreeShape, config: GPSNetworkConfig) -> None:
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
        # The usual unit variance would drown the features.
        nn.init.normal_(self.depth.weight, std=0.02)
        # A small actor starts near the uniform distribution over the legal actions.
        nn.init.orthogonal_(self.actor.weight, gain=0.01)
        nn.init.zeros_(self.actor.bias)

    def readout(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return what actor and critic read, [B, readout_size]."""
        forest = build_forest(observation, self.shape.features, self.config.walk_length)
        states = self.embed(forest.nodes) + self.depth(forest.depths)
        for layer in self.layers:
            states = layer(states, forest.edge_index, forest.tree, edge_attr=forest.edge_attr)
        sums = states.new_zeros(len(forest.counts), self.config.channels).index_add(0, forest.tree, states)
        mean = sums / forest.counts[:, None]
        return torch.cat([states[forest.current], mean, observation["action_mask"]], dim=-1)


def build_forest(observation: Mapping[str, Tensor], features: int, walk_length: int) -> Forest:
    """Take the padding out of a batch of observations and connect parents with children."""
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
    """Probability that a random walk along undirected edges is back where it began after 2, 4, ... steps.

    The symmetrically normalised adjacency S is similar to the walk's transition matrix, so the probabilities are the
    diagonal of its powers, and that of the power 2k is the row sums of the squares of S^k.

    Args:
        tree: tree of each edge, [E].
        child: its lower node within the tree, [E].
        parent: its upper node, [E].
        size: [B, N] trees and nodes.
        walk_length: the last number of steps.

    Returns:
        [B, N, walk_length / 2]; 0 for a root alone and for padding.
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


def _gps_layer(config: GPSNetworkConfig) -> nn.Module:
    from torch_geometric.nn import GINEConv, GPSConv

    channels = config.channels
    mlp = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
    # PyG's layer norm is over the whole graph unless told otherwise.
    norm, options = ("layer_norm", {"mode": "node"}) if config.norm == "layer" else ("graph_norm", {})
    conv = GINEConv(mlp, edge_dim=2) if config.local else None
    layer = GPSConv(channels, conv, heads=config.heads, norm=norm, norm_kwargs=options)
    if not config.global_attention:
        # Attention that adds nothing to its residual branch, and stays so.
        for parameter in layer.attn.parameters():
            nn.init.zeros_(parameter).requires_grad_(False)
    if conv is None:
        layer.norm1 = None
    return layer
