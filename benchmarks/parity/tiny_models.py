"""Tiny random models of the causal architectures of transformers, for comparisons and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reason_envs.llm.loading import load_tokenizer

INIT_SCALE = 4
"""Factor of the initial matrices, so that tokens differ in probability."""
SHAPE: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{"num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True},
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
DELTA = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_state": 8, "mamba_d_head": 8, "mamba_n_groups": 1}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 32}
ROUTED = {
    **{"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1},
    **{"n_group": 1, "topk_group": 1},
}
LATENT = {
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
    **{"n_shared_experts": 1, "num_key_value_heads": 4},
}
WINDOW = {"sliding_window": 16}
CAPPED = {**WINDOW, "final_logit_softcapping": 5.0}
SCALED = {"logits_scaling": 4.0, "embedding_multiplier": 2.0}
PLAIN = """
    llama qwen2 qwen3 gemma phi phi3 olmo olmo2 olmo3 smollm3 stablelm starcoder2 gpt_neox nemotron glm glm4
    exaone4 helium seed_oss arcee apertus hunyuan_v1_dense hunyuan_v1_moe hyperclovax ernie4_5 bitnet
    diffllama persimmon biogpt gpt_bigcode cwm xglm rwkv doge jais2 ministral3 modernbert-decoder granite_swa
    hrm_text gpt_neox_japanese fuyu xlstm openai-gpt ctrl codegen nanochat falcon jetmoe olmo_hybrid flex_olmo
    aria_text cohere2_moe granitemoe_swa gemma4_unified_text bert moshi
"""
KINDS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in PLAIN.split()},
    "bart": {"decoder_layers": 2, "d_model": 32, "decoder_attention_heads": 4, "decoder_ffn_dim": 64},
    "minicpm3": {**LATENT, "qk_rope_head_dim": 8},
    "mistral": WINDOW,
    "ministral": WINDOW,
    "gemma2": {**CAPPED, "attn_logit_softcapping": 20.0},
    "gemma3_text": CAPPED,
    "gemma3n_text": {
        **{"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"], "laurel_rank": 8},
        **{"hidden_size_per_layer_input": 16, "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0, 0.0]},
        **{"intermediate_size": [64, 64], **WINDOW},
    },
    "gemma4_text": {"hidden_size_per_layer_input": 16, "final_logit_softcapping": 5.0, **WINDOW},
    "vaultgemma": CAPPED,
    "granite": SCALED,
    "granitemoe": {**SCALED, **LOCAL},
    "granitemoeshared": {**SCALED, **LOCAL, "shared_intermediate_size": 32},
    "granitemoehybrid": {
        **{**SCALED, **LOCAL, **MAMBA},
        **{"shared_intermediate_size": 32, "layer_types": ["mamba", "attention"]},
    },
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, **WINDOW},
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 8},
    "codegen": {**GPT, "rotary_dim": 8},
    "gpt_neo": {
        **{"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 16},
    },
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_head": 4, "n_layer": 2},
    "falcon": {"head_dim": None},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "qwen2_moe": SHARED,
    "qwen3_moe": EXPERTS,
    "qwen3_next": {**SHARED, **HYBRID, **DELTA},
    "qwen3_5_text": {**HYBRID, **DELTA},
    "qwen3_5_moe_text": {**SHARED, **HYBRID, **DELTA},
    "mixtral": LOCAL,
    "phimoe": LOCAL,
    "gpt_oss": {**LOCAL, **WINDOW},
    "minimax": {**LOCAL, **HYBRID},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32},
    "glm4_moe": ROUTED,
    "deepseek_v2": {**ROUTED, **LATENT},
    "deepseek_v3": {**ROUTED, **LATENT, "head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64, "lm_head_multiplier": 0.5},
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "jamba": {
        **{"num_experts": 2, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 8},
        **{"expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False},
    },
    "zamba2": {
        **{"mamba_d_state": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "num_mem_blocks": 1, "adapter_rank": 8},
        "layers_block_type": ["mamba", "hybrid"],
    },
    "nemotron_h": {
        **{"hybrid_override_pattern": "M*", "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8},
        "n_groups": 1,
    },
    "recurrent_gemma": {"lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 32},
    "mamba": {"state_size": 8, "expand": 2},
    "mamba2": {"state_size": 8, "expand": 2, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "falcon_mamba": {"state_size": 8},
}
"""Options of each model type that differ from ``SHAPE``; ``None`` removes one."""


def write_random_model(kind: str, folder: Path) -> Any:
    """Write a random model of an architecture, with the tokenizer of the embedded model.

    Args:
        kind: a key of ``KINDS``.
        folder: folder of the model.

    Returns:
        The model.
    """
    tokenizer = load_tokenizer("embedded")
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": 0}
    options = {**SHAPE, **ids, "vocab_size": len(tokenizer) + 8, **KINDS[kind]}
    config = AutoConfig.for_model(kind, **{name: value for name, value in options.items() if value is not None})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(INIT_SCALE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
