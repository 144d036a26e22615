"""Options of the graph and MLP policies, in a separate file so that listing them does not import torch."""

from dataclasses import dataclass

from reason_envs.errors import OptionError
from reason_envs.validation import Checked, limited


@dataclass
class GraphPolicyConfig(Checked):
    """Options of ``policy=graph``. The defaults suit trees with tens of nodes on a CPU."""

    channels: int = limited(32, at_least=1)
    """Width of the state of each node; a multiple of ``heads``."""
    layers: int = limited(2, at_least=1)
    """Number of GPS layers."""
    heads: int = limited(2, at_least=1)
    """Number of attention heads per layer."""
    norm: str = limited("layer", one_of=("layer", "graph"))
    """Normalisation: ``layer`` (each node separately) or ``graph`` (over the nodes of a tree)."""
    local: bool = True
    """Whether nodes exchange messages along the tree's edges."""
    global_attention: bool = True
    """Whether every node attends to all nodes of its tree."""
    walk_length: int = limited(8, at_least=2)
    """Maximum length of the random walks in the positional encoding, in steps. It is even, since a walk on a tree never
    returns after an odd number of steps."""
    device: str = "auto"
    """Device of the network: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda:N``."""

    def __post_init__(self) -> None:
        if self.norm == "batch":
            raise OptionError(
                "norm",
                self.norm,
                "would make importance ratios wrong: its outputs depend on the other trees of the batch and differ "
                "between sampling and training. Use norm=layer or norm=graph.",
            )
        super().__post_init__()
        if self.channels % self.heads:
            raise OptionError("channels", self.channels, f"must be a multiple of heads={self.heads}.")
        if self.walk_length % 2:
            raise OptionError("walk_length", self.walk_length, "must be even.")


@dataclass
class MLPPolicyConfig(Checked):
    """Options of ``policy=mlp``."""

    width: int = limited(64, at_least=1)
    """Number of units per hidden layer."""
    layers: int = limited(2, at_least=1)
    """Number of hidden layers."""
    device: str = "auto"
    """Device of the network: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda:N``."""
