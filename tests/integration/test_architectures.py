"""Foreign architectures: learner, engine and the model's own forward pass give the same log-probabilities."""

from __future__ import annotations

import asyncio

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agents.policies.language import LanguagePolicy
from agents.policies.language_config import LanguagePolicyConfig
from agents.training.weight_sync import WeightSync
from agents.trajectory import Choice, Decision
from reason_envs.errors import EngineError
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.llm.loading import load_tokenizer

SHAPE = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{"num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True},
}
LINEAR = {
    **{"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 4},
    **{"linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
KINDS = {
    "llama": {},
    "gemma2": {"final_logit_softcapping": 5.0, "sliding_window": 16},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "cohere": {"logit_scale": 0.25},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "bloom": {"n_head": 4, "n_layer": 2},
    "qwen2_moe": {
        **{"num_experts": 4, "num_experts_per_tok": 2},
        **{"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_5_text": LINEAR,
    "falcon_h1": {
        **{"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8},
        "lm_head_multiplier": 0.5,
    },
}
REFUSED = {
    "recurrent_gemma": {"lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 32},
}
SAMPLING = Sampling(max_tokens=10)


def random_model(kind, folder):
    """Write a random model of an architecture with the embedded model's tokenizer."""
    tokenizer = load_tokenizer("embedded")
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": 0}
    config = AutoConfig.for_model(kind, **{**SHAPE, **ids, "vocab_size": len(tokenizer), **{**KINDS, **REFUSED}[kind]})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)  # so that tokens differ in probability
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def sampled(engine):
    """Sample responses to prompts of different lengths in one batch."""
    prompts = ["What is 3 + 4?", "Take your time with a longer problem: what is 12 + 30 - 4 + 5?"]
    requests = [
        GenerationRequest([{"role": "user", "content": text}], i, SAMPLING, n=2) for i, text in enumerate(prompts)
    ]
    return [generation for group in engine.generate_batch(requests) for generation in group]


def decision(generation):
    choice = Choice(
        generation.token_ids, generation.log_probs, SAMPLING, "stop", 0, generation.prompt_ids, generation.text
    )
    return Decision("e", "a", 0, choice, 0.0, "g")


@torch.no_grad()
def forward_log_probs(model, generation):
    ids = torch.tensor([generation.prompt_ids + generation.token_ids])
    logits = model(input_ids=ids).logits[0, len(generation.prompt_ids) - 1 : -1].float()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(generation.token_ids)[:, None]).squeeze(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_learner_and_engine_agree_with_the_models_forward_pass(kind, tmp_path):
    folder = random_model(kind, tmp_path)
    policy = LanguagePolicy(LanguagePolicyConfig(model=folder, device="cpu"))
    engine = TransformersEngine(model=folder, device="cpu")
    generations = sampled(engine)
    with torch.no_grad(), policy.training_mode(False):
        learned = policy.evaluate([decision(generation) for generation in generations]).log_probs
    for generation, row in zip(generations, learned, strict=True):
        expected = forward_log_probs(engine.model, generation)
        assert torch.allclose(torch.tensor(generation.log_probs), expected, atol=1e-4)
        assert torch.allclose(row[: len(expected)], expected, atol=1e-4)
    asyncio.run(_canary(policy, engine))


async def _canary(policy, engine):
    await WeightSync(policy, engine).canary()


def test_an_architecture_with_its_own_cache_is_refused_by_name(tmp_path):
    folder = random_model("recurrent_gemma", tmp_path)
    policy = LanguagePolicy(LanguagePolicyConfig(model=folder, device="cpu"))
    with pytest.raises(EngineError, match="RecurrentGemmaForCausalLM"):
        asyncio.run(_canary(policy, TransformersEngine(model=folder, device="cpu")))
