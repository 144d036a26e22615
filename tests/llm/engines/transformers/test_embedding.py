"""Embeddings of samples: projections of the hidden states from which the model predicts."""

import asyncio

import numpy as np
import pytest
import torch
from scripted_engine import ScriptedEngine

from agents.policies.graph import GraphPolicy, GraphPolicyConfig
from reason_envs import make_environment
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.observation import FEATURES
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.recorded.engine import RecordedEngine
from reason_envs.llm.engines.transformers.engine import TransformersEngine

SIZE = 5


@pytest.fixture(scope="module")
def engine(tiny_model):
    return TransformersEngine(model=tiny_model, device="cpu", embedding_size=SIZE)


def by_hand(engine, sample):
    """Return the projection of the state before the last token, without a cache."""
    ids = torch.tensor([[*sample.prompt_ids, *sample.token_ids[:-1]]])
    with torch.no_grad():
        state = engine.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1].double().numpy()
    matrix = np.random.default_rng(derive_seed(0, "embedding")).standard_normal((len(state), SIZE))
    normal = (state - state.mean()) / np.sqrt(state.var() + 1e-5)
    return np.clip(normal @ matrix / np.sqrt(len(state)) / 3, -1, 1)


@pytest.mark.parametrize("keep_prefix", [False, True])
def test_embedding_is_the_projected_hidden_state_of_each_sample(engine, keep_prefix):
    lengths, prompts = (1, 9, 4, 2), ([30, 31, 32], [40, 41, 42, 43, 44], [30, 31, 32], [50])
    requests = [
        GenerationRequest(prompt, seed, Sampling(length), n=3, keep_prefix=keep_prefix)
        for seed, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
    ]

    async def ask():
        return await gather(*map(engine.generate, requests))

    samples = [sample for answers in asyncio.run(ask()) for sample in answers]
    assert len({len(sample.token_ids) for sample in samples}) > 2
    for sample in samples:
        assert sample.embedding == pytest.approx(by_hand(engine, sample), abs=2e-4)
    assert len({tuple(sample.embedding) for sample in samples}) > 6


def test_embeddings_change_no_sample(engine, tiny_model):
    request = GenerationRequest([20, 21, 22], 3, Sampling(12), n=4)
    plain = asyncio.run(TransformersEngine(model=tiny_model, device="cpu").generate(request))
    assert [s.token_ids for s in asyncio.run(engine.generate(request))] == [s.token_ids for s in plain]
    assert all(sample.embedding is None for sample in plain)


def test_record_replays_embeddings_exactly(tiny_model, tmp_path):
    engine = TransformersEngine(model=tiny_model, device="cpu", embedding_size=SIZE)
    request = GenerationRequest([20, 21, 22], 3, Sampling(12), n=2)
    recorder = RecordedEngine(path=str(tmp_path / "record.jsonl"), live=engine)
    live = asyncio.run(recorder.generate(request))
    recorder.close()
    replay = RecordedEngine(path=str(tmp_path / "record.jsonl"))
    assert replay.embedding_size == SIZE
    again = asyncio.run(replay.generate(request))
    assert [s.embedding for s in again] == [s.embedding for s in live] != [None, None]


def features(environment):
    """Return the number of features per node that a graph policy reads."""
    return GraphPolicy(GraphPolicyConfig(device="cpu"), environment=environment).shape.features


def test_tree_shows_the_embedding_of_each_step(engine):
    environment = make_environment("reason_tree", engine=engine, reward_model="transformers", max_nodes=6)
    space = environment.observation_space("searcher")
    assert features(environment) == len(FEATURES) + SIZE

    async def play():
        await environment.reset(seed=1)
        return [await environment.step({"searcher": action}) for action in (0, 1)]

    observation = asyncio.run(play())[-1].observations["searcher"]
    assert space.contains(observation)
    embeddings = observation["nodes"].reshape(6, -1)[:, len(FEATURES) :]
    tree = environment.state.tree
    assert len(tree.nodes) == 3
    np.testing.assert_array_equal(embeddings[0], 0)
    np.testing.assert_allclose(embeddings[1:3], [node.embedding for node in tree.nodes[1:]], atol=1e-6)
    np.testing.assert_array_equal(embeddings[3:], 0)


def test_tree_of_an_engine_without_embeddings_has_the_usual_features():
    environment = make_environment("reason_tree", engine=ScriptedEngine("1"), reward_model="transformers")
    assert features(environment) == len(FEATURES)
