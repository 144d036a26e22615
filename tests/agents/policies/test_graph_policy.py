"""The graph policy: masked sampling by seed, evaluation, references and files."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import numpy as np
import pytest
import torch
from graph_toys import batched, make_decision, make_policy, random_observation, trees
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Toy
from tree_toys import Sums, make_tree

from agents.policies.graph import GraphPolicy, GraphPolicyConfig
from agents.registry import POLICIES
from agents.rollout.episodes import grouped, play
from reason_envs.batching import gather
from reason_envs.envs.reason_tree.observation import FEATURES
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling

SHARED = make_policy()
MASKS = st.lists(st.sampled_from([0, 1]), min_size=4, max_size=4).filter(any)


@pytest.fixture
def policy():
    """Return a policy whose distribution is far from uniform."""
    policy = make_policy()
    change(policy)
    return policy


def act(policy, observations, seeds, sampling=None):
    return asyncio.run(policy.act(observations, seeds, sampling))


def actions(choices):
    return [choice.token_ids[0] for choice in choices]


def change(policy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


# --- acting


@settings(max_examples=60, deadline=None)
@given(masks=st.lists(MASKS, min_size=1, max_size=6), seed=st.integers(0, 2**63 - 1), temperature=st.floats(0, 3))
def test_act_never_chooses_an_illegal_action(masks, seed, temperature):
    sampling = Sampling(1, temperature if temperature > 0.01 else 0.0)
    observations = [random_observation(2 + i, i, mask) for i, mask in enumerate(masks)]
    choices = act(
        SHARED, [SHARED.observe(None, o) for o in observations], [seed + i for i in range(len(masks))], sampling
    )
    for mask, choice in zip(masks, choices, strict=True):
        assert mask[choice.token_ids[0]]
        assert -50 < choice.log_probs[0] <= 0
        if sum(mask) == 1:
            assert choice.log_probs == [0.0]


def test_act_depends_on_the_seed_and_not_on_the_batch(policy):
    observations = trees(policy, 30)
    together = act(policy, observations, range(100, 130))
    backwards = act(policy, observations[::-1], range(129, 99, -1))[::-1]
    alone = [act(policy, [o], [100 + i])[0] for i, o in enumerate(observations)]
    assert actions(together) == actions(alone) == actions(backwards)
    assert len(set(actions(together))) > 1
    for a, b in zip(together, alone, strict=True):
        assert a.log_probs == pytest.approx(b.log_probs, abs=1e-5)


def test_act_follows_the_distribution(policy):
    observation = trees(policy, 9, mask=(1, 1, 0, 1))[8]
    with torch.no_grad():
        expected = torch.softmax(policy.network(batched([observation]))[0][0], -1)
    chosen = actions(act(policy, [observation] * 4000, range(4000)))
    shares = np.bincount(chosen, minlength=4) / 4000
    assert shares.tolist() == pytest.approx(expected.tolist(), abs=0.03)  # four standard errors
    assert 0.05 < expected[0] < 0.95


def test_act_at_temperature_0_chooses_the_most_likely_legal_action(policy):
    observations = trees(policy, 12, mask=(0, 1, 1, 1))
    with torch.no_grad():
        best = policy.network(batched(observations))[0].argmax(-1).tolist()
    assert actions(act(policy, observations, range(12), Sampling(1, 0.0))) == best


def test_choices_contain_the_name_of_the_action(policy):
    policy.version = 7
    (choice,) = act(policy, trees(policy, 4, mask=(0, 0, 1, 0))[3:], [1])
    assert (choice.token_ids, choice.text, choice.finish_reason) == ([2], "BACKTRACK", "stop")
    assert (choice.policy_version, choice.prompt_ids, choice.sampling) == (7, [], policy.sampling)
    assert policy.action(None, choice) == 2


def test_act_batches_concurrent_calls(policy):
    observations = trees(policy, 20)

    async def separately():
        return await gather(*(policy.act([o], [i]) for i, o in enumerate(observations)))

    choices = [choice for (choice,) in asyncio.run(separately())]
    assert actions(choices) == actions(act(policy, observations, range(20)))
    assert policy.batcher.calls == 2


def test_observe_removes_padding(policy):
    padded = random_observation(6, 0)
    stored = policy.observe(make_tree(), padded)
    assert {key: len(value) for key, value in stored.items()} == {
        **{"nodes": 6 * len(FEATURES), "parents": 6, "depths": 6, "node_mask": 6},
        **{"current": 1, "action_mask": 4},
    }
    assert not any(np.shares_memory(stored[key], padded[key]) for key in stored)
    assert policy.lengths([make_decision(stored)]) == [6]


def test_graph_policy_plays_the_environment(policy):
    env, tasks = make_tree(max_depth=4, max_nodes=10), Sums()
    policy = GraphPolicy(GraphPolicyConfig(device="cpu"), environment=env)
    played = asyncio.run(play(env, policy, grouped([tasks[i] for i in range(6)], 2, seed=0)))
    decisions = [d for trajectory in played for d in trajectory.decisions]
    assert len(decisions) > 12
    assert all(d.observation["action_mask"][d.choice.token_ids[0]] for d in decisions)
    with torch.no_grad():
        out = policy.evaluate(decisions)
    assert out.log_probs[:, 0].tolist() == pytest.approx([d.choice.log_probs[0] for d in decisions], abs=1e-5)


# --- learning


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_evaluate_agrees_with_act_and_the_distribution(policy, temperature):
    observations = trees(policy, 10, mask=(1, 0, 1, 1))
    choices = act(policy, observations, range(10), Sampling(1, temperature))
    rows = zip(observations, actions(choices), strict=True)
    out = policy.evaluate([make_decision(o, a, temperature) for o, a in rows], entropy_gradient=True)
    assert out.log_probs.shape == out.entropy.shape == out.mask.shape == out.values.shape == (10, 1)
    assert out.log_probs[:, 0].tolist() == pytest.approx([c.log_probs[0] for c in choices], abs=1e-5)
    logits, values = policy.network(batched(observations))
    legal = torch.distributions.Categorical(logits=logits[:, [0, 2, 3]] / temperature)
    assert torch.allclose(out.entropy[:, 0], legal.entropy(), atol=1e-5)
    assert torch.equal(out.values[:, 0], values)
    assert out.mask.all()


def test_evaluate_of_one_legal_action_has_entropy_0_and_finite_gradients(policy):
    decision = make_decision(trees(policy, 3, mask=(0, 0, 1, 0))[2], action=2)
    out = policy.evaluate([decision], entropy_gradient=True)
    assert out.entropy.tolist() == [[0.0]]
    (out.log_probs.sum() + out.entropy.sum() + out.values.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters())


def test_evaluate_gives_the_entropy_a_gradient_only_on_request(policy):
    decision = make_decision(trees(policy, 3)[2])
    assert policy.evaluate([decision], entropy_gradient=True).entropy.requires_grad
    assert not policy.evaluate([decision]).entropy.requires_grad


def test_evaluate_refuses_greedy_decisions(policy):
    with pytest.raises(ReasonEnvsError, match="greedily"):
        policy.evaluate([make_decision(trees(policy, 3)[2], temperature=0.0)])


def test_reference_keeps_the_weights_of_its_start(policy):
    decisions = [make_decision(o) for o in trees(policy, 5)]
    before = policy.evaluate(decisions).log_probs
    policy.prepare_reference()
    change(policy, seed=1)
    with policy.reference():
        frozen = policy.evaluate(decisions)
    assert torch.equal(frozen.log_probs, before)
    assert not frozen.log_probs.requires_grad
    assert not torch.allclose(policy.evaluate(decisions).log_probs, before, atol=1e-3)


# --- weights and files


def test_initial_weights_depend_on_the_seed_only():
    state = torch.get_rng_state()
    a, b, c = make_policy(seed=1), make_policy(seed=1), make_policy(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


@pytest.mark.parametrize("options", [{}, {"channels": 16, "norm": "graph", "global_attention": False}], ids=str)
def test_from_pretrained_restores_a_saved_policy(tmp_path, options):
    policy = make_policy(**options)
    change(policy)
    policy.save_pretrained(tmp_path / "policy")
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == ["config.json", "model.safetensors"]
    loaded = GraphPolicy.from_pretrained(tmp_path / "policy", environment=make_tree(), device="cpu")
    assert loaded.config == policy.config
    decisions = [make_decision(o) for o in trees(policy, 6)]
    assert torch.equal(loaded.evaluate(decisions).log_probs, policy.evaluate(decisions).log_probs)


def test_load_state_tensors_restores_the_weights():
    policy, other = make_policy(), make_policy(seed=3)
    other.load_state_tensors({name: tensor.clone() for name, tensor in policy.state_tensors().items()})
    assert all(torch.equal(x, y) for x, y in zip(policy.parameters(), other.parameters(), strict=True))


def test_load_state_tensors_refuses_weights_for_other_trees(tmp_path):
    policy = make_policy()
    with pytest.raises(ReasonEnvsError, match="do not fit"):
        make_policy(channels=16).load_state_tensors(policy.state_tensors())
    policy.save_pretrained(tmp_path / "policy")
    shapes = r"'depth\.weight' is \[16, 32\] in the weights and \[4, 32\] in the policy"
    with pytest.raises(ReasonEnvsError, match=shapes):
        GraphPolicy.from_pretrained(tmp_path / "policy", environment=make_tree(max_depth=3))
    with pytest.raises(ReasonEnvsError, match=r"config\.json is missing"):
        GraphPolicy.from_pretrained(tmp_path, environment=make_tree())


def test_graph_policy_refuses_an_environment_without_trees(policy):
    with pytest.raises(ReasonEnvsError, match=r"tree observation.*, but Toy returns text: use policy=language"):
        GraphPolicy(GraphPolicyConfig(), environment=Toy())
    with pytest.raises(ReasonEnvsError, match=r"tree observation.*policy=language"):
        policy.observe(Toy(), "What is 1 + 2?")


def test_graph_policy_is_registered_without_loading_the_graph_library():
    assert POLICIES["graph"].load() is GraphPolicy
    code = "import sys, agents.policies.graph as g; g.GraphPolicyConfig(); print('torch_geometric' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
