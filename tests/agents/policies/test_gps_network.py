"""The graph network: batches of trees, encodings with known values, invariances, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graph_toys import batched, make_policy, random_observation, trees
from tree_toys import make_tree

from agents.policies.actor_critic import ILLEGAL
from agents.policies.graph import (
    STEP_PROBABILITY,
    GraphPolicy,
    GraphPolicyConfig,
    TreeShape,
    build_forest,
    return_probabilities,
)
from reason_envs.envs.reason_tree.observation import FEATURES
from reason_envs.errors import ReasonEnvsError

VARIANTS = [
    {},
    {"norm": "graph"},
    {"local": False},
    {"global_attention": False},
    {"global_attention": False, "norm": "graph", "layers": 3},
    {"channels": 64, "heads": 4, "walk_length": 2},
]
SCORE = FEATURES.index("score")


def walks(parents, walk_length):
    """Return the encoding of one tree, [N, walk_length / 2]."""
    children = [i for i, parent in enumerate(parents) if parent >= 0]
    child = torch.tensor(children, dtype=torch.long)
    parent = torch.tensor([parents[i] for i in children], dtype=torch.long)
    size = torch.Size([1, len(parents)])
    return return_probabilities(torch.zeros_like(child), child, parent, size, walk_length)[0]


def random_parents(nodes, seed):
    generator = np.random.default_rng(seed)
    return [-1, *(int(generator.integers(i)) for i in range(1, nodes))]


# --- batches


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_network_gives_each_tree_the_same_result_alone_or_in_a_batch(options):
    policy = make_policy(**options)
    observations = trees(policy, 32)
    with torch.no_grad():
        logits, values = policy.network(batched(observations))
        for i, observation in enumerate(observations):
            alone, value = policy.network(batched([observation]))
            assert torch.allclose(logits[i], alone[0], atol=1e-5)
            assert torch.allclose(values[i], value[0], atol=1e-5)
    assert values.std() > 0.01


def test_network_ignores_padding():
    policy = make_policy()
    raw = [random_observation(1 + 3 * i, [5, i], max_nodes=60) for i in range(8)]
    wide = [random_observation(1 + 3 * i, [5, i], max_nodes=200) for i in range(8)]
    garbage = [{k: v.copy() for k, v in o.items()} for o in wide]
    for observation in garbage:  # masked positions are never read
        real = int(observation["node_mask"].sum())
        observation["nodes"][real * len(FEATURES) :] = 0.5
        observation["depths"][real:] = 3.0
    with torch.no_grad():
        outputs = [
            policy.network({k: torch.from_numpy(np.stack([o[k] for o in padded])) for k in raw[0]})
            for padded in (raw, wide, garbage)
        ]
    for logits, values in outputs[1:]:
        assert torch.equal(logits, outputs[0][0])
        assert torch.equal(values, outputs[0][1])


@pytest.mark.parametrize("options", VARIANTS[:2], ids=str)
def test_network_ignores_the_order_of_nodes(options):
    policy = make_policy(**options)
    (observation,) = trees(policy, 17)[16:]
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(16)])  # new index -> old index
    place = np.argsort(order)
    parents = observation["parents"].astype(int)
    moved = {
        **observation,
        "nodes": observation["nodes"].reshape(17, -1)[order].reshape(-1),
        "depths": observation["depths"][order],
        "parents": np.where(parents[order] >= 0, place[parents[order]], -1).astype(np.float32),
        "current": place[observation["current"].astype(int)].astype(np.float32),
    }
    with torch.no_grad():
        (logits, values), (others, other_values) = (policy.network(batched([o])) for o in (observation, moved))
    assert torch.allclose(logits, others, atol=1e-5)
    assert torch.allclose(values, other_values, atol=1e-5)


def test_forest_has_every_edge_in_both_directions():
    policy = make_policy()
    three = trees(policy, 3)  # 1, 2 and 3 nodes: the third tree starts at node 3
    three[2]["parents"][:] = [-1, 0, 1]
    three[2]["depths"][:] = [0, 1, 2]
    three[2]["current"][:] = 2
    forest = build_forest(batched(three), len(FEATURES), walk_length=4)
    assert forest.edge_index.tolist() == [[2, 4, 5, 1, 3, 4], [1, 3, 4, 2, 4, 5]]
    assert forest.edge_attr[:, 0].tolist() == [-1, -1, -1, 1, 1, 1]
    expected = [o["nodes"].reshape(-1, len(FEATURES))[i, STEP_PROBABILITY] for o, i in ((three[1], 1), (three[2], 2))]
    assert forest.edge_attr[[0, 2], 1].tolist() == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) < 1
    assert torch.equal(forest.edge_attr[:3, 1], forest.edge_attr[3:, 1])
    assert forest.tree.tolist() == [0, 1, 1, 2, 2, 2]
    assert forest.current.tolist()[2] == 5
    assert forest.depths.tolist() == [0, 0, 1, 0, 1, 2]


# --- the positional encoding


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ([-1, 0, 1], [[0.5, 0.5], [1.0, 1.0], [0.5, 0.5]]),
        ([-1, 0, 0, 0], [[1.0, 1.0], [1 / 3, 1 / 3], [1 / 3, 1 / 3], [1 / 3, 1 / 3]]),
        ([-1, 0, 1, 2], [[1 / 2, 3 / 8], [3 / 4, 11 / 16], [3 / 4, 11 / 16], [1 / 2, 3 / 8]]),
        ([-1], [[0.0, 0.0]]),
    ],
    ids=["path of 3", "star", "path of 4", "root alone"],
)
def test_return_probabilities_have_known_values(parents, expected):
    assert torch.allclose(walks(parents, 4), torch.tensor(expected))


@pytest.mark.parametrize("seed", range(5))
def test_return_probabilities_are_the_diagonal_of_transition_powers(seed):
    parents = random_parents(3 + 6 * seed, seed)
    adjacency = np.zeros((len(parents), len(parents)))
    for child, parent in enumerate(parents):
        if parent >= 0:
            adjacency[child, parent] = adjacency[parent, child] = 1
    transition = adjacency / adjacency.sum(1, keepdims=True)
    powers = [np.diag(np.linalg.matrix_power(transition, k)) for k in range(1, 9)]
    assert not np.any(powers[::2])  # no walk on a tree returns after an odd number of steps
    assert np.allclose(walks(parents, 8).numpy().T, powers[1::2], atol=1e-6)


def test_return_probabilities_are_positive_on_trees():
    for nodes in range(2, 30):
        assert (walks(random_parents(nodes, nodes), 8) > 0).all()


# --- what reaches what


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_network_has_gradients_for_every_parameter(options):
    policy = make_policy(**options)
    for parameter in policy.network.actor.parameters():  # it starts near zero
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    observations = [o for seed in range(4) for o in trees(policy, 24, seed=seed)]
    logits, values = policy.network(batched(observations))
    (torch.log_softmax(logits, -1)[:, 0].sum() + values.square().sum()).backward()
    for name, parameter in policy.network.named_parameters():
        if parameter.requires_grad and name != "depth.weight":
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    deepest = int(max(o["depths"].max() for o in observations))
    assert (policy.network.depth.weight.grad[: deepest + 1].abs().amax(1) > 0).all()


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({}, [1, 2, 3, 4]),
        ({"global_attention": False}, [1, 2]),
        ({"global_attention": False, "layers": 3}, [1, 2, 3]),
        ({"local": False}, [1, 2, 3, 4]),
        ({"local": False, "global_attention": False}, []),
    ],
    ids=str,
)
def test_messages_pass_one_edge_per_layer_and_attention_reaches_all_nodes(options, reached):
    policy = make_policy(**options)
    (observation,) = trees(policy, 6)[5:]
    observation["parents"][:] = [-1, 0, 1, 2, 3, 4]
    observation["depths"][:] = [0, 1, 2, 3, 4, 5]
    observation["current"][:] = 0
    changed = []
    with torch.no_grad():
        before = policy.network.readout(batched([observation]))[0, : policy.config.channels]
        for distance in (1, 2, 3, 4):
            other = {**observation, "nodes": observation["nodes"].copy()}
            other["nodes"].reshape(6, -1)[distance, SCORE] += 0.5
            after = policy.network.readout(batched([other]))[0, : policy.config.channels]
            if not torch.allclose(before, after, atol=1e-7):
                changed.append(distance)
    assert changed == reached


def test_network_gives_illegal_actions_probability_zero():
    policy = make_policy()
    observation = trees(policy, 5, mask=(1, 0, 1, 0))[4]
    logits, _ = policy.network(batched([observation]))
    assert logits[0, [1, 3]].tolist() == [ILLEGAL, ILLEGAL]
    probabilities = torch.softmax(logits, -1)[0]
    assert probabilities[[1, 3]].tolist() == [0.0, 0.0]
    assert probabilities[[0, 2]].tolist() == pytest.approx([0.5, 0.5], abs=0.1)  # near uniform before any learning


def test_value_head_learns_to_count_answers():
    policy, answers = make_policy(), FEATURES.index("is_answer")

    def examples(seeds):
        observations = [o for seed in seeds for o in trees(policy, 16, seed=seed)]
        shares = [float(o["nodes"].reshape(-1, len(FEATURES))[:, answers].mean()) for o in observations]
        return batched(observations), torch.tensor(shares)

    inputs, targets = examples(range(8))
    optimizer = torch.optim.Adam(policy.network.parameters(), 1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        (policy.network(inputs)[1] - targets).square().mean().backward()
        optimizer.step()
    inputs, targets = examples(range(100, 108))
    with torch.no_grad():
        error = (policy.network(inputs)[1] - targets).square().mean()
    assert error < 0.2 * targets.var()


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "norm='batch' would make importance ratios wrong"),
        ({"norm": "layr"}, "Did you mean 'layer'"),
        ({"channels": 30, "heads": 4}, "multiple of heads"),
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"walk_length": 3}, "walk_length=3 must be even"),
    ],
)
def test_network_refuses_wrong_options(options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        GraphPolicyConfig(**options)


def test_tree_shape_is_read_from_the_observation_space():
    env = make_tree(max_depth=7, max_nodes=30)
    policy = GraphPolicy(GraphPolicyConfig(device="cpu"), environment=env)
    assert policy.shape == TreeShape(len(FEATURES), 4, 7)
