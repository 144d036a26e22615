"""The language policy: agreement with the engine, references, precision and files."""

import asyncio
import json

import pytest
import torch
from language_toys import make_decision, make_policy, mixed_decisions, single_turn

from agents.policies import language, scorer
from agents.policies.language import LanguagePolicyConfig
from agents.policies.padding import collate
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.llm.loading import load_model, load_tokenizer


@pytest.fixture(scope="module")
def policy(tiny_model):
    policy = make_policy(tiny_model)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    return policy


def act(policy, count, **sampling):
    conversations = [[{"role": "user", "content": "Say " + "a" * i}] for i in range(count)]
    return asyncio.run(policy.act(conversations, range(count), Sampling(12, **sampling)))


def decisions_of(choices):
    decisions = [make_decision() for _ in choices]
    for decision, choice in zip(decisions, choices, strict=True):
        decision.choice = choice
    return decisions


def change(policy, seed=1, scale=0.05):
    """Change every trainable weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


# --- evaluation


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}, {"temperature": 1.5, "top_p": 0.8, "top_k": 40}])
def test_evaluate_agrees_with_the_engine(policy, sampling):
    choices = act(policy, 6, **sampling)
    out = policy.evaluate(decisions_of(choices))
    for row, choice in zip(out.log_probs.detach(), choices, strict=True):
        assert row[: len(choice.token_ids)].tolist() == pytest.approx(choice.log_probs, abs=1e-4)
    assert out.mask.sum(1).tolist() == [len(c.token_ids) for c in choices]
    assert torch.equal(out.log_probs[~out.mask], torch.zeros_like(out.log_probs[~out.mask]))


def test_evaluate_computes_the_entropy_at_the_sampling_temperature(policy):
    decision = make_decision(5, 3, temperature=0.7)
    ids = torch.tensor([decision.choice.prompt_ids + decision.choice.token_ids])
    with torch.no_grad():
        distribution = torch.distributions.Categorical(logits=policy.model(ids).logits[0, 4:-1] / 0.7)
        out = policy.evaluate([decision])
    assert torch.allclose(out.entropy[0], distribution.entropy(), atol=1e-5)
    chosen = torch.tensor(decision.choice.token_ids)
    assert torch.allclose(out.log_probs[0], distribution.log_prob(chosen), atol=1e-5)


def test_evaluate_does_not_depend_on_batch_and_padding(policy, monkeypatch):
    decisions = mixed_decisions()
    with torch.no_grad():
        together = policy.evaluate(decisions)
        monkeypatch.setattr(language, "collate", lambda chosen, pad_id: collate(chosen, 555))
        padded_otherwise = policy.evaluate(decisions)
        for i, decision in enumerate(decisions):
            alone, length = policy.evaluate([decision]), len(decision.choice.token_ids)
            assert torch.allclose(together.log_probs[i, :length], alone.log_probs[0], atol=1e-5)
            assert torch.allclose(together.entropy[i, :length], alone.entropy[0], atol=1e-5)
    assert torch.equal(together.log_probs, padded_otherwise.log_probs)


def test_evaluate_computes_logits_of_sampled_tokens_only(policy, monkeypatch):
    seen = []
    original = scorer.token_log_probs

    def spy(head, states, targets, temperatures, **options):
        seen.extend(targets.tolist())
        return original(head, states, targets, temperatures, **options)

    monkeypatch.setattr(scorer, "token_log_probs", spy)
    decisions = mixed_decisions()
    policy.evaluate(decisions)
    assert seen == [token for d in decisions for token in d.choice.token_ids]


def test_evaluate_gives_the_same_gradients_with_checkpointing(tiny_model, policy):
    checkpointed = make_policy(tiny_model, gradient_checkpointing=True)
    gradients = []
    for each in (policy, checkpointed):
        with each.training_mode(True):
            loss = each.evaluate(mixed_decisions()).log_probs.sum()
        gradients.append(torch.autograd.grad(loss, list(each.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.3), ("float16", 0.05)])
def test_evaluate_in_lower_precision_is_close(tiny_model, policy, precision, tolerance):
    coarse = make_policy(tiny_model, precision=precision)
    assert coarse.scales_loss == (precision == "float16")
    out, exact = coarse.evaluate(mixed_decisions()), policy.evaluate(mixed_decisions())
    assert out.log_probs.dtype == torch.float32
    assert torch.allclose(out.log_probs, exact.log_probs, atol=tolerance)
    assert not torch.allclose(out.log_probs, exact.log_probs, atol=1e-5)
    out.log_probs.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in coarse.parameters())


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"dtype": "bfloat16", "lora_rank": 4}])
def test_evaluate_computes_the_head_in_float32(tiny_model, monkeypatch, options):
    seen = []
    original = scorer.LogitsHead.__call__

    def spy(head, states):
        logits = original(head, states)
        expected = states.double() @ head.weight.double().T
        seen.append(
            (float((logits - expected).detach().abs().max()), float((logits - logits.bfloat16()).detach().abs().max()))
        )
        return logits

    monkeypatch.setattr(scorer.LogitsHead, "__call__", spy)
    policy = make_policy(tiny_model, **{"precision": "bfloat16", **options})
    policy.evaluate(mixed_decisions()).log_probs.sum().backward()
    assert all(error < 1e-3 < rounding for error, rounding in seen)
    assert all(parameter.grad is not None for parameter in policy.parameters())


def test_reference_is_bfloat16_if_the_policy_computes_in_it(tiny_model):
    policy = make_policy(tiny_model, precision="bfloat16")
    policy.prepare_reference()
    assert {p.dtype for p in policy._reference.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert {b.dtype for b in policy._reference.buffers()} == {b.dtype for b in policy.model.buffers()}
    with policy.reference():
        reference = policy.evaluate(mixed_decisions()).log_probs
    assert torch.allclose(reference, policy.evaluate(mixed_decisions()).log_probs, atol=0.3)


def test_lengths_count_prompt_and_response(policy):
    assert policy.lengths([make_decision(5, 3), make_decision(9, 1)]) == [8, 10]


def test_evaluate_refuses_greedy_choices(policy):
    for sampling in (Sampling(temperature=0.0), None):
        decision = make_decision()
        decision.choice = language.Choice([5], None, sampling, "stop", 0, [6], "")
        with pytest.raises(ReasonEnvsError, match="temperature above 0"):
            policy.evaluate([decision, make_decision()])


# --- acting


def test_choices_contain_the_engines_result(policy):
    (choice,) = act(policy, 1)
    assert choice.text == policy.tokenizer.decode(choice.token_ids, skip_special_tokens=True)
    assert choice.sampling == Sampling(12)
    assert policy.prompt_length([{"role": "user", "content": "Say "}]) == len(choice.prompt_ids)


def test_act_uses_the_policys_sampling_by_default(policy):
    (choice,) = asyncio.run(policy.act([[{"role": "user", "content": "hi"}]], [0]))
    assert choice.sampling == policy.config.sampling()


def test_act_needs_an_engine(tiny_model):
    with pytest.raises(ReasonEnvsError, match="set the attribute `engine` first"):
        asyncio.run(make_policy(tiny_model).act([[{"role": "user", "content": "hi"}]], [0]))


def test_observe_and_action_use_the_environment(policy):
    async def reward(response, task):
        return 0.0

    environment = single_turn("chain_sum", reward)
    assert policy.observe(environment, "1 + 1?") == [{"role": "user", "content": "1 + 1?"}]
    (choice,) = act(policy, 1)
    assert policy.action(environment, choice) == choice.text


# --- references and modes


@pytest.mark.parametrize("where", ["policy", "cpu", "offload"])
def test_reference_of_full_fine_tuning_is_a_frozen_copy(tiny_model, where):
    policy = make_policy(tiny_model, reference_device=where)
    policy.prepare_reference()
    before = policy.evaluate(mixed_decisions()).log_probs.detach()
    change(policy)
    after = policy.evaluate(mixed_decisions()).log_probs.detach()
    with policy.reference():
        reference = policy.evaluate(mixed_decisions()).log_probs
    assert torch.equal(reference, before)
    assert not reference.requires_grad
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(policy.evaluate(mixed_decisions()).log_probs.detach(), after)


def test_offloaded_reference_is_on_the_policys_device_only_inside_its_context(tiny_model, monkeypatch):
    policy = make_policy(tiny_model, reference_device="offload")
    policy.prepare_reference()
    moves = []
    monkeypatch.setattr(policy._reference, "to", moves.append)
    policy.device = torch.device("meta")
    with policy.reference():
        assert moves == [torch.device("meta")]
    assert moves == [torch.device("meta"), torch.device("cpu")]


def test_training_mode_is_restored(policy):
    assert not policy.model.training
    with policy.training_mode(True):
        assert policy.model.training
        with policy.training_mode(False):
            assert not policy.model.training
        assert policy.model.training
    assert not policy.model.training


# --- files and checkpoints


def test_save_pretrained_writes_a_transformers_model(tiny_model, tmp_path):
    policy = make_policy(tiny_model)
    change(policy)
    policy.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device=torch.device("cpu"), dtype=torch.float32)
    for name, tensor in policy.export_weights().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    chat = [{"role": "user", "content": "hi"}]
    assert load_tokenizer(str(tmp_path)).apply_chat_template(chat) == policy.tokenizer.apply_chat_template(chat)


def test_state_tensors_restore_the_policy(tiny_model):
    trained, fresh = make_policy(tiny_model), make_policy(tiny_model)
    change(trained)
    fresh.load_state_tensors({name: tensor.clone() for name, tensor in trained.state_tensors().items()})
    assert torch.equal(fresh.evaluate(mixed_decisions()).log_probs, trained.evaluate(mixed_decisions()).log_probs)


def test_load_state_tensors_refuses_another_model(tiny_model):
    policy = make_policy(tiny_model)
    state = dict(policy.state_tensors())
    name = next(iter(state))
    for wrong in ({}, {**state, "extra": torch.ones(1)}, {**state, name: torch.ones(2, 2)}):
        with pytest.raises(ReasonEnvsError, match="do not fit this policy"):
            policy.load_state_tensors(wrong)


# --- wrong options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float8"}, "precision='float8' is unknown"),
        ({"dtype": "double"}, "dtype='double' is unknown"),
        ({"dtype": "float16"}, "precision=float16"),
        ({"temperature": 0.0}, r"^temperature=0\.0 must be above 0"),
        ({"top_p": 0.0}, r"top_p=0\.0"),
        ({"top_k": -1}, "top_k=-1"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"overlong_prompts": "drop"}, "overlong_prompts='drop' is unknown"),
        ({"reference_device": "gpu"}, "reference_device='gpu' is unknown"),
        ({"lora_rank": -1}, "lora_rank=-1"),
        ({"lora_rank": 4, "adapter": "x"}, "cannot be combined with adapter='x'"),
        ({"lora_dropout": 0.1}, r"lora_dropout=0\.1"),
        ({"lora_dropout": 0.1, "adapter": "x"}, r"lora_dropout=0\.1"),
        ({"lora_dropout": 1.0, "lora_rank": 4}, r"lora_dropout=1\.0"),
        ({"adapter": "./nowhere"}, r"adapter_config\.json is missing"),
        ({"model": "./nowhere"}, "this folder does not exist"),
    ],
)
def test_language_policy_refuses_wrong_options(tiny_model, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make_policy(**{"model": tiny_model, **options})


def test_language_config_survives_json():
    config = LanguagePolicyConfig(stop=["\n"], top_p=0.9)
    assert LanguagePolicyConfig(**json.loads(json.dumps(vars(config)))).sampling() == Sampling(
        128, 1.0, 0.9, 0, ("\n",)
    )
