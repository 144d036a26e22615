"""Observation of a tree: a flat dictionary of one-dimensional arrays, padded to the largest tree."""

import math

import numpy as np
from gymnasium.spaces import Box, Dict

from reason_envs.envs.reason_tree.config import GrowthConfig
from reason_envs.envs.reason_tree.tree import Node, Tree

FEATURES = (
    *("score", "value", "log_prob", "probability", "min_probability", "depth", "sibling", "tokens"),
    *("is_answer", "on_path", "is_current", "is_root", "children", "closed"),
)
"""Features of each node in ``nodes``, scaled to [-1, 1]. ``probability`` is the geometric mean over the tokens of a
step, ``min_probability`` the probability of its least likely token."""
LOG_PROB_RANGE = 10.0
"""Scale of mean log-probabilities, in nats; lower ones are clipped to its negative."""

Observation = dict[str, np.ndarray]


def observation_space(config: GrowthConfig, actions: int, embedding_size: int) -> Dict:
    """Return the space of observations. Every part is a finite, one-dimensional Box, as Gymnasium and SB3 require.

    Each node has `FEATURES`, then ``embedding_size`` numbers of the generator's embedding of the step.
    """
    n = config.max_nodes
    return Dict(
        {
            "nodes": Box(-1.0, 1.0, (n * (len(FEATURES) + embedding_size),), np.float32),
            "parents": Box(-1.0, n - 1.0, (n,), np.float32),
            "depths": Box(0.0, float(config.max_depth), (n,), np.float32),
            "node_mask": Box(0.0, 1.0, (n,), np.float32),
            "current": Box(0.0, n - 1.0, (1,), np.float32),
            "action_mask": Box(0.0, 1.0, (actions,), np.float32),
        }
    )


def observe(tree: Tree, current: int, mask: np.ndarray, config: GrowthConfig, embedding_size: int) -> Observation:
    """Convert a tree to arrays. Rows without a node are zero, and their parents are -1."""
    n, nodes = len(tree.nodes), np.zeros((config.max_nodes, len(FEATURES) + embedding_size), np.float32)
    parents, depths = np.full(config.max_nodes, -1.0, np.float32), np.zeros(config.max_nodes, np.float32)
    node_mask = np.zeros(config.max_nodes, np.float32)
    on_path = {0, *tree.path(current)}
    for i, node in enumerate(tree.nodes):
        features = _features(node, i, i in on_path, i == current, config)
        nodes[i] = *features, *(node.embedding or [0.0] * embedding_size)
    np.clip(nodes, -1.0, 1.0, out=nodes)
    parents[:n] = [node.parent for node in tree.nodes]
    depths[:n] = [node.depth for node in tree.nodes]
    node_mask[:n] = 1.0
    return {
        "nodes": nodes.reshape(-1),
        "parents": parents,
        "depths": depths,
        "node_mask": node_mask,
        "current": np.array([current], np.float32),
        "action_mask": mask.astype(np.float32),
    }


def _features(node: Node, index: int, on_path: bool, is_current: bool, config: GrowthConfig) -> tuple[float, ...]:
    return (
        node.score,
        node.value / config.max_depth if config.aggregation == "sum" else node.value,
        max(node.log_prob, -LOG_PROB_RANGE) / LOG_PROB_RANGE,
        math.exp(node.log_prob),
        math.exp(node.min_log_prob),
        node.depth / config.max_depth,
        node.sibling / config.max_branch,
        node.tokens / config.max_step_tokens,
        node.terminal,
        on_path,
        is_current,
        index == 0,
        len(node.children) / config.max_branch,
        node.closed,
    )
