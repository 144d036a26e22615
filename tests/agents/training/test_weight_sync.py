"""Verified weight synchronisation: engines that lose, delay or ignore weights are detected."""

import asyncio
import math
from types import SimpleNamespace

import pytest
import torch
from language_toys import make_policy
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from agents.training import weight_changes
from agents.training.weight_sync import WeightSync
from agents.trajectory import Choice
from benchmarks.parity.tiny_models import write_random_model
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine


class Ignoring(TransformersEngine):
    """Engine that stores the version but not the weights."""

    def load_weights(self, source, version):
        self.policy_version = version


class Dropping(TransformersEngine):
    """Engine that keeps its old values of one tensor."""

    dropped = "model.layers.0.self_attn.v_proj.weight"
    first_version = 0

    def load_weights(self, source, version):
        if version < self.first_version:
            super().load_weights(source, version)
            return
        own = self.model.state_dict()[self.dropped].clone()
        super().load_weights({**source, self.dropped: own}, version)


class DroppingAfterTheCanary(Dropping):
    """Engine that keeps its old values of one tensor once training starts."""

    first_version = 1


class DroppingTheHead(Dropping):
    """Engine that keeps its old values of the head that shares its weights with the embedding."""

    dropped = "lm_head.weight"

    def load_weights(self, source, version):
        super().load_weights({**source, "model.embed_tokens.weight": self.model.lm_head.weight.clone()}, version)


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
    return (await sync.push(1))["sync_gap"]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_push_verifies_an_engine_that_takes_the_weights(tiny_model, lora_rank):
    policy, engine = make_policy(tiny_model, lora_rank=lora_rank), TransformersEngine(model=tiny_model, device="cpu")
    assert asyncio.run(train(policy, engine)) < 1e-4
    assert engine.policy_version == 1
    for name, tensor in policy.export_weights().items():
        assert torch.equal(engine.model.state_dict()[name], tensor)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_canary_does_not_change_the_policy(tiny_model, lora_rank):
    policy, engine = make_policy(tiny_model, lora_rank=lora_rank), TransformersEngine(model=tiny_model, device="cpu")
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    sent = {name: tensor.clone() for name, tensor in policy.export_weights().items()}
    asyncio.run(WeightSync(policy, engine).canary())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())
    assert all(torch.equal(tensor, engine.model.state_dict()[name]) for name, tensor in sent.items())


def with_adapter(tiny_model, folder, **options):
    """Return a policy with a new adapter of PEFT."""
    layers = {"target_modules": ["q_proj", "v_proj"], **options}
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    get_peft_model(base, LoraConfig(r=4, task_type="CAUSAL_LM", **layers)).save_pretrained(folder)
    return make_policy(tiny_model, adapter=str(folder))


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}])
def test_canary_passes_adapters_that_merge(tiny_model, tmp_path, options):
    policy = with_adapter(tiny_model, tmp_path, **options)
    asyncio.run(WeightSync(policy, TransformersEngine(model=tiny_model, device="cpu")).canary())


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"lora_bias": True},
    ],
)
def test_canary_refuses_adapters_that_do_not_merge(tiny_model, tmp_path, options):
    policy = with_adapter(tiny_model, tmp_path, **options)
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    with pytest.raises(ReasonEnvsError, match=r"Qwen3ForCausalLM.*policy\.lora_target_modules"):
        asyncio.run(WeightSync(policy, TransformersEngine(model=tiny_model, device="cpu")).canary())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_canary_refuses_a_wrong_merge_of_one_layer(tiny_model, dtype):
    policy = make_policy(tiny_model, lora_rank=4, dtype=dtype, precision=dtype)
    export, name = policy.export_weights, "model.layers.0.mlp.down_proj.weight"
    policy.export_weights = lambda: {
        **export(),
        name: policy.model.get_base_model().model.layers[0].mlp.down_proj.weight,
    }
    with pytest.raises(EngineError, match=r"Qwen3ForCausalLM.* adapter changes the model when it is merged"):
        asyncio.run(WeightSync(policy, TransformersEngine(model=tiny_model, device="cpu", dtype=dtype)).canary())


class Failing(TransformersEngine):
    """Engine whose model fails."""

    def generate_batch(self, requests):
        raise AttributeError("no such state")


def test_canary_names_a_model_that_does_not_run(tiny_model):
    engine = Failing(model=tiny_model, device="cpu")
    with pytest.raises(
        EngineError, match=r"Qwen3ForCausalLM cannot be trained with Failing \(AttributeError: no such state"
    ):
        asyncio.run(WeightSync(make_policy(tiny_model), engine).canary())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_push_allows_an_engine_of_lower_precision(tiny_model, dtype):
    engine = TransformersEngine(model=tiny_model, device="cpu", dtype=dtype)
    assert 1e-5 < asyncio.run(train(make_policy(tiny_model), engine)) < 0.1


@pytest.mark.parametrize("hide", [lambda engine: engine, blind])
@pytest.mark.parametrize("kind", [Ignoring, Late, Forgetful])
def test_canary_detects_an_engine_that_does_not_take_weights(tiny_model, kind, hide):
    engine = hide(kind(model=tiny_model, device="cpu"))
    with pytest.raises(ReasonEnvsError, match=r"canary|did not reach|score sampled responses|disagree"):
        asyncio.run(WeightSync(make_policy(tiny_model), engine).canary())


@pytest.mark.parametrize("kind", [Dropping, DroppingTheHead])
def test_canary_detects_an_engine_that_keeps_one_tensor(tiny_model, kind):
    engine = blind(kind(model=tiny_model, device="cpu"))
    with pytest.raises(EngineError, match=r"change of all trained weights of Qwen3ForCausalLM, .* not sample from all"):
        asyncio.run(WeightSync(make_policy(tiny_model), engine).canary())


@pytest.mark.parametrize("kind", [DroppingAfterTheCanary, LateAfterTheCanary])
def test_push_detects_lost_weights_by_their_digest(tiny_model, kind):
    engine = kind(model=tiny_model, device="cpu")
    with pytest.raises(ReasonEnvsError, match="version 1 did not reach the engine: its digest"):
        asyncio.run(train(make_policy(tiny_model), engine, scale=1e-6))


@pytest.mark.parametrize("kind", [DroppingAfterTheCanary, LateAfterTheCanary])
def test_push_detects_lost_weights_by_their_scores_without_a_digest(tiny_model, kind):
    engine = blind(kind(model=tiny_model, device="cpu"))
    with pytest.raises(ReasonEnvsError, match=r"score sampled responses .* nats per token apart"):
        asyncio.run(train(make_policy(tiny_model), engine, scale=0.2))


def test_push_detects_scores_of_nan(tiny_model):
    engine = blind(TransformersEngine(model=tiny_model, device="cpu"))
    with pytest.raises(ReasonEnvsError, match="nan nats per token apart"):
        asyncio.run(train(make_policy(tiny_model), engine, scale=float("nan")))


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


class SamplingOtherwise(TransformersEngine):
    """Engine that samples with other log-probabilities than it scores with, as code that ignores padding does."""

    shift = 0.15

    def generate_batch(self, requests):
        groups = super().generate_batch(requests)
        for generation in (each for group in groups for each in group):
            generation.log_probs[:] = [value - self.shift for value in generation.log_probs]
        return groups


@pytest.mark.parametrize(("dtype", "shift"), [("float32", 0.001), ("float32", 0.15), ("bfloat16", 0.06)])
def test_canary_refuses_differences_that_rounding_does_not_explain(tiny_model, dtype, shift):
    engine = SamplingOtherwise(model=tiny_model, device="cpu", dtype=dtype)
    engine.shift = shift
    with pytest.raises(EngineError, match=r"0\.[01]\d* in batches or between sampling and reading again"):
        asyncio.run(WeightSync(make_policy(tiny_model, dtype=dtype, precision=dtype), engine).canary())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_canary_refuses_a_model_that_ignores_padding(tmp_path, dtype):
    write_random_model("git", tmp_path)  # differs by 0.015 nats, which bfloat16 causes in other models
    policy = make_policy(str(tmp_path), dtype=dtype, precision=dtype)
    with pytest.raises(EngineError, match=r"GitForCausalLM: \S+ nats per token, and 0\.01\d in batches"):
        asyncio.run(WeightSync(policy, TransformersEngine(model=str(tmp_path), device="cpu", dtype=dtype)).canary())


@pytest.mark.parametrize(("scale", "shares"), [(0.01, [1.0]), (30.0, [1.0, 0.5, 0.25, 0.1])])
def test_canary_weakens_a_change_that_ruins_the_model(tiny_model, monkeypatch, scale, shares):
    tried = []

    def changed(policy, share):
        tried.append(share)
        return weight_changes.changed_weights(policy, share)

    monkeypatch.setattr(weight_changes, "ROW_SCALE", scale)
    monkeypatch.setattr("agents.training.weight_sync.changed_weights", changed)
    policy, engine = make_policy(tiny_model), TransformersEngine(model=tiny_model, device="cpu")
    asyncio.run(WeightSync(policy, engine).canary())
    assert tried == shares


def adapted_layer(width, rank=8):
    """Return a layer's matrices of an adapter at its start, as PEFT draws them, with the interface of a policy."""
    bound = width**-0.5
    matrix = torch.empty(rank, width).uniform_(-bound, bound, generator=torch.Generator().manual_seed(0))
    matrices = {"layer.lora_A.weight": matrix, "layer.lora_B.weight": torch.zeros(width, rank)}
    return SimpleNamespace(matrices=matrices, named_parameters=lambda: iter(matrices.items()))


def test_canary_changes_adapters_of_narrow_and_wide_layers_alike():
    """The change is compared with a layer that keeps the size of its input, whose numbers deviate by width ** -0.5."""
    shares = []
    for width in (64, 1024):
        layer = adapted_layer(width)
        with weight_changes.changed_weights(layer, 1.0):
            change = layer.matrices["layer.lora_B.weight"] @ layer.matrices["layer.lora_A.weight"]
        shares.append((change.std() * width**0.5).item())
    assert shares[0] == pytest.approx(shares[1], rel=0.1)
    assert 0.05 < shares[1] < 0.3


def test_calibration_never_allows_more_than_its_limit(tiny_model):
    """A difference just below the limit at the start does not allow ten times as much later."""
    engine = Biased(model=tiny_model, device="cpu")
    engine.bias = 0.0015
    sync = WeightSync(make_policy(tiny_model), engine)
    asyncio.run(sync.canary())
    engine.bias = 0.003
    with pytest.raises(EngineError, match=r"0\.0030 nats per token apart"):
        asyncio.run(sync.push(1))


def sampled(policy, engine, n):
    """Return choices that the engine samples for one prompt."""
    request = GenerationRequest([{"role": "user", "content": "1 + 2"}], 0, Sampling(max_tokens=8), n=n)
    prompt = encode_prompt(policy.tokenizer, request.prompt)
    answers = asyncio.run(engine.generate(request))
    return [Choice(a.token_ids, a.log_probs, request.sampling, "stop", 0, prompt, a.text) for a in answers]


class Unlucky(TransformersEngine):
    """Engine whose scores of the first of several responses are far from the learner's, as rounding can make them."""

    bias = (0.0,)
    scored = 0

    async def score(self, token_ids, prompt_length, temperature=1.0, adapter=None):
        scores = await super().score(token_ids, prompt_length, temperature, adapter)
        self.scored += 1
        return [score + self.bias[(self.scored - 1) % len(self.bias)] for score in scores]


@pytest.mark.parametrize(("bias", "passes"), [((0.0005, 0.0005, 0, 0, 0, 0, 0), True), ((0.0005,), False)])
def test_push_compares_several_responses_if_one_differs_too_much(tiny_model, bias, passes):
    policy, engine = make_policy(tiny_model), Unlucky(model=tiny_model, device="cpu")
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    sync.watch(sampled(policy, engine, 6))
    engine.bias, engine.scored = bias, 0
    if passes:
        assert asyncio.run(sync.push(1))["sync_gap"] == pytest.approx(0.0005 / 6, rel=0.05)
        assert engine.scored == 7
    else:
        with pytest.raises(EngineError, match=r"score sampled responses 0\.0005 nats per token apart"):
            asyncio.run(sync.push(1))


@pytest.mark.parametrize("scale", [0.0, 0.02])
def test_push_measures_how_far_a_step_moved_the_policy(tiny_model, scale):
    """By hand: the mean of exp(d) - 1 - d, where d is the change of a token's log-probability."""
    policy, engine = make_policy(tiny_model), TransformersEngine(model=tiny_model, device="cpu")
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    assert "step_kl" not in asyncio.run(sync.push(0))  # no sampled response is watched yet
    (choice,) = choices = sampled(policy, engine, 1)
    sync.watch(choices)
    change(policy, scale)
    measured = asyncio.run(sync.push(1))["step_kl"]
    after = asyncio.run(engine.score([*choice.prompt_ids, *choice.token_ids], len(choice.prompt_ids), 1.0))
    moved = [new - old for new, old in zip(after, choice.log_probs, strict=True)]
    assert measured == pytest.approx(sum(math.expm1(d) - d for d in moved) / len(moved), abs=1e-5)
    assert (measured > 1e-3) == (scale > 0)


class Float32Head(torch.nn.Linear):
    """Head that computes in float32, as the learner's does."""

    def forward(self, states):
        return torch.nn.functional.linear(states.float(), self.weight.float())


def bfloat16(tiny_model, kind, lora_rank=0):
    """Return a policy and an engine that compute in bfloat16 alike, with heads in float32."""
    policy = make_policy(tiny_model, dtype="bfloat16", precision="bfloat16", lora_rank=lora_rank)
    engine = blind(kind(model=tiny_model, device="cpu", dtype="bfloat16"))
    engine.model.lm_head.__class__ = Float32Head
    return policy, engine


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_push_allows_healthy_updates_in_bfloat16(tiny_model, lora_rank):
    policy, engine = bfloat16(tiny_model, TransformersEngine, lora_rank)
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    for step in range(24):
        change(policy, scale=0.003)
        asyncio.run(sync.push(step))


def test_push_detects_a_small_fault_in_bfloat16(tiny_model):
    policy, engine = bfloat16(tiny_model, Biased)
    engine.bias = 0.0
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    engine.bias = 0.006
    with pytest.raises(EngineError, match=r"0\.0060 nats per token apart \(tolerance 0\.003\)"):
        asyncio.run(sync.push(1))


@pytest.mark.parametrize("kind", [DroppingAfterTheCanary, LateAfterTheCanary])
def test_push_detects_a_withheld_small_update_in_bfloat16_without_a_digest(tiny_model, kind):
    with pytest.raises(EngineError, match=r"score sampled responses .* nats per token apart"):
        asyncio.run(train(*bfloat16(tiny_model, kind), scale=0.01))
