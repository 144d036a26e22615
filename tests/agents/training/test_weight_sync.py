"""Verified weight synchronisation: engines that lose, delay or ignore weights are detected."""

import asyncio

import pytest
import torch
from language_toys import make_policy

from agents.training.weight_sync import WeightSync
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm.engines.scripted import ScriptedEngine
from reason_envs.llm.engines.transformers.engine import TransformersEngine


class Ignoring(TransformersEngine):
    """Engine that stores the version but not the weights."""

    def load_weights(self, source, version):
        self.policy_version = version


class Dropping(TransformersEngine):
    """Engine that keeps its old values of one tensor."""

    dropped = "model.layers.0.self_attn.v_proj.weight"

    def load_weights(self, source, version):
        own = self.model.state_dict()[self.dropped].clone()
        super().load_weights({**source, self.dropped: own}, version)


class Late(TransformersEngine):
    """Engine that is always one version behind."""

    waiting = None

    def load_weights(self, source, version):
        copied = {name: tensor.clone() for name, tensor in source.items()}
        if self.waiting is not None:
            super().load_weights(*self.waiting)
        self.waiting = copied, version


class LateAfterTheCanary(Late):
    """Engine that is one version behind once training starts."""

    def load_weights(self, source, version):
        if version:
            super().load_weights(source, version)
        else:
            TransformersEngine.load_weights(self, source, version)
            self.waiting = {name: tensor.clone() for name, tensor in source.items()}, version


class Forgetful(TransformersEngine):
    """Engine that ignores all weights after the second transfer."""

    transfers = 0

    def load_weights(self, source, version):
        self.transfers += 1
        if self.transfers <= 2:
            super().load_weights(source, version)


def blind(engine):
    """Hide the digest, as an engine in another process may."""
    engine.weights_digest = lambda: None
    return engine


def change(policy, scale):
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


async def train(policy, engine, scale=0.05):
    """Run the canary and one training step; return the gap of the probe."""
    sync = WeightSync(policy, engine)
    await sync.canary()
    change(policy, scale)
    return await sync.push(1)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_push_verifies_an_engine_that_takes_the_weights(tiny_model, lora_rank):
    policy, engine = make_policy(tiny_model, lora_rank=lora_rank), TransformersEngine(model=tiny_model, device="cpu")
    assert asyncio.run(train(policy, engine)) < 1e-4
    assert engine.policy_version == 1
    for name, tensor in policy.export_weights().items():
        assert torch.equal(engine.model.state_dict()[name], tensor)


def test_canary_does_not_change_the_policy(tiny_model):
    policy, engine = make_policy(tiny_model), TransformersEngine(model=tiny_model, device="cpu")
    before = {name: tensor.clone() for name, tensor in policy.state_tensors().items()}
    asyncio.run(WeightSync(policy, engine).canary())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_tensors().items())
    assert all(torch.equal(tensor, engine.model.state_dict()[name]) for name, tensor in before.items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_push_allows_an_engine_of_lower_precision(tiny_model, dtype):
    engine = TransformersEngine(model=tiny_model, device="cpu", dtype=dtype)
    assert 1e-5 < asyncio.run(train(make_policy(tiny_model), engine)) < 0.1


@pytest.mark.parametrize("hide", [lambda engine: engine, blind])
@pytest.mark.parametrize("kind", [Ignoring, Late, Forgetful])
def test_canary_detects_an_engine_that_does_not_take_weights(tiny_model, kind, hide):
    engine = hide(kind(model=tiny_model, device="cpu"))
    with pytest.raises(ReasonEnvsError, match=r"canary|did not reach|score a sampled response|disagree"):
        asyncio.run(WeightSync(make_policy(tiny_model), engine).canary())


@pytest.mark.parametrize("kind", [Dropping, LateAfterTheCanary])
def test_push_detects_lost_weights_by_their_digest(tiny_model, kind):
    engine = kind(model=tiny_model, device="cpu")
    with pytest.raises(ReasonEnvsError, match="version 1 did not reach the engine: its digest"):
        asyncio.run(train(make_policy(tiny_model), engine, scale=1e-6))


@pytest.mark.parametrize("kind", [Dropping, LateAfterTheCanary])
def test_push_detects_lost_weights_by_their_scores_without_a_digest(tiny_model, kind):
    engine = blind(kind(model=tiny_model, device="cpu"))
    with pytest.raises(ReasonEnvsError, match=r"score a sampled response .* nats per token apart"):
        asyncio.run(train(make_policy(tiny_model), engine, scale=0.2))


def test_push_detects_scores_of_nan(tiny_model):
    engine = blind(TransformersEngine(model=tiny_model, device="cpu"))
    with pytest.raises(ReasonEnvsError, match="nan nats per token apart"):
        asyncio.run(train(make_policy(tiny_model), engine, scale=float("nan")))


def test_weight_sync_refuses_an_engine_that_cannot_be_trained(tiny_model):
    with pytest.raises(ReasonEnvsError, match="ScriptedEngine cannot take new weights"):
        WeightSync(make_policy(tiny_model), ScriptedEngine("4"))


def test_canary_refuses_an_engine_with_another_model(tiny_model):
    engine = TransformersEngine(model=tiny_model, device="cpu")
    engine.model.lm_head = torch.nn.Linear(32, 7, bias=False)
    with pytest.raises(ReasonEnvsError, match="must load the same model"):
        asyncio.run(WeightSync(make_policy(tiny_model), engine).canary())


class NotANumber(TransformersEngine):
    """Engine whose scores are NaN from the start."""

    async def score(self, token_ids, prompt_length, temperature=1.0, adapter=None):
        return [float("nan")] * (len(token_ids) - prompt_length)


class Biased(TransformersEngine):
    """Engine that computes other log-probabilities than the learner, by a constant."""

    bias = 0.01

    async def score(self, token_ids, prompt_length, temperature=1.0, adapter=None):
        scores = await super().score(token_ids, prompt_length, temperature, adapter)
        return [score + self.bias for score in scores]


@pytest.mark.parametrize("kind", [NotANumber, Biased])
def test_canary_refuses_a_model_that_both_sides_score_differently(tiny_model, kind):
    engine = kind(model=tiny_model, device="cpu")
    with pytest.raises(EngineError, match="disagree about the log-probabilities of Qwen3ForCausalLM"):
        asyncio.run(WeightSync(make_policy(tiny_model), engine).canary())


def test_calibration_never_allows_more_than_its_limit(tiny_model):
    """A difference just below the limit at the start does not allow ten times as much later."""
    engine = Biased(model=tiny_model, device="cpu")
    engine.bias = 0.0015
    sync = WeightSync(make_policy(tiny_model), engine)
    asyncio.run(sync.canary())
    engine.bias = 0.003
    with pytest.raises(EngineError, match=r"0\.0030 nats per token apart"):
        asyncio.run(sync.push(1))
