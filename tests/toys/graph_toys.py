"""Random search trees and small graph policies for tests."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from tree_toys import make_tree

from agents.policies.graph import GraphPolicy, GraphPolicyConfig
from agents.trajectory import Choice, Decision
from reason_envs.envs.reason_tree.config import GrowthConfig
from reason_envs.envs.reason_tree.observation import observe
from reason_envs.envs.reason_tree.tree import new_tree
from reason_envs.llm.engine import Sampling

CPU = torch.device("cpu")


def random_observation(nodes, seed, mask=(1, 1, 1, 1), max_nodes=80):
    """Return the observation of a tree with random shape, scores and lengths."""
    generator = np.random.default_rng(seed)
    config = GrowthConfig(max_nodes=max_nodes)
    tree = new_tree("?", [], seed=0, aggregation="product")
    while len(tree.nodes) < nodes:
        open_nodes = [i for i, node in enumerate(tree.nodes) if node.depth < config.max_depth]
        tree.add(
            int(generator.choice(open_nodes[-5:])),
            str(len(tree.nodes)),
            token_ids=[],
            log_prob=-float(generator.exponential(2.0)),
            tokens=int(generator.integers(1, 64)),
            score=float(generator.random()),
            terminal=bool(generator.random() < 0.2),
        )
    return observe(tree, int(generator.integers(nodes)), np.array(mask), config, embedding_size=0)


def make_policy(seed=0, **options):
    return GraphPolicy(GraphPolicyConfig(device="cpu", **options), seed=seed, environment=make_tree())


def trees(policy, count, seed=0, **options):
    """Return observations with 1, 2, 3, ... nodes as the policy stores them."""
    env = make_tree()
    return [policy.observe(env, random_observation(1 + i, [seed, i], **options)) for i in range(count)]


def batched(observations):
    return GraphPolicy.collate(SimpleNamespace(device=CPU), observations)


def make_decision(observation, action=0, temperature=1.0):
    choice = Choice([action], None, Sampling(1, temperature), "stop", 0, [], "")
    return Decision("episode", "searcher", 0, choice, 0.0, "g", observation=observation)
