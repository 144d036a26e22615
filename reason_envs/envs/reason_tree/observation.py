"""What a policy sees of a tree: a flat dictionary of one-dimensional arrays, padded to the largest tree."""

from __future__ import annotations

import math

import numpy as np
from gymnasium.spaces import Box, Dict

from reason_envs.envs.reason_tree.config import GrowthConfig
from reason_envs.envs.reason_tree.tree import Node, Tree

FEATURES = (
    "score",
    "value",
    "log_prob",
    "probability",
    "least_probability",
    "depth",
    "sibling",
    "tokens",
    "is_answer",
    "on_path",
    "is_current",
    "is_root",
    "children",
    "closed",
)
"""What each node's row in ``nodes`` holds, all scaled into [-1, 1]. ``probability`` is the geometric mean over a step's
tokens, ``least_probability`` that of its least likely one."""
LEAST_LOG_PROB = 10.0
"""Mean log-probabilities below minus this are cut."""

Observation = dict[str, np.ndarray]


def observation_space(config: GrowthConfig, actions: int) -> Dict:
    """Return the space of observations; every part is finite and one-dimensional, as Gymnasium and SB3 ask.

    Args:
        config: names the largest tree.
        actions: number of actions.
    """
    n = config.max_nodes
    return Dict(
        {
            "nodes": Box(-1.0, 1.0, (n * len(FEATURES),), np.float32),
            "parents": Box(-1.0, n - 1.0, (n,), np.float32),
            "depths": Box(0.0, float(config.max_depth), (n,), np.float32),
            "node_mask": Box(0.0, 1.0, (n,), np.float32),
            "current": Box(0.0, n - 1.0, (1,), np.float32),
            "action_mask": Box(0.0, 1.0, (actions,), np.float32),
        }
    )


def observe(tree: Tree, current: int, mask: np.ndarray, config: GrowthConfig) -> Observation:
    """Write a tree as arrays; rows of nodes that do not exist are zero, and their parents -1."""
    n, nodes = len(tree.nodes), np.zeros((config.max_nodes, len(FEATURES)), np.float32)
    parents, depths = np.full(config.max_nodes, -1.0, np.float32), np.zeros(config.max_nodes, np.float32)
    node_mask = np.zeros(config.max_nodes, np.float32)
    on_path = {0, *tree.path(current)}
    nodes[:n] = [_features(node, i, i in on_path, i == current, config) for i, node in enumerate(tree.nodes)]
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
        max(node.log_prob, -LEAST_LOG_PROB) / LEAST_LOG_PROB,
        math.exp(node.log_prob),
        math.exp(node.least_log_prob),
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
