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
SPARSE = {**ROUTED, **LATENT, **EXPERTS, **LOCAL}
HALF = {
    **{"d_model": 32, "decoder_layers": 2, "encoder_layers": 2, "decoder_ffn_dim": 64, "encoder_ffn_dim": 64},
    **{"decoder_attention_heads": 4, "encoder_attention_heads": 4},
}
VISION = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"image_size": 28, "patch_size": 14},
}
SCALED = {"logits_scaling": 4.0, "embedding_multiplier": 2.0}
PLAIN = """
    llama qwen2 qwen3 gemma phi phi3 olmo olmo2 olmo3 smollm3 stablelm starcoder2 gpt_neox nemotron glm glm4
    exaone4 helium seed_oss arcee apertus hunyuan_v1_dense hunyuan_v1_moe hyperclovax ernie4_5 bitnet
    diffllama persimmon biogpt gpt_bigcode cwm xglm rwkv doge jais2 ministral3 modernbert-decoder granite_swa
    hrm_text gpt_neox_japanese fuyu xlstm openai-gpt ctrl codegen nanochat falcon jetmoe olmo_hybrid flex_olmo
    aria_text cohere2_moe granitemoe_swa gemma4_unified_text moshi
"""
ENCODERS = """
    bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta
    roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xmod
"""
HALVES = "bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart trocr whisper"
SPARSE_KINDS = """
    axk1 axk2 deepseek_v32 dots1 glm4_moe_lite glm_moe_dsa hy_v3 hy_v4 laguna llama4_text longcat_flash mellum
    minimax_m2 minimax_m3_vl_text solar_open youtu
"""


def _wrapped(kind: str, options: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Return the options of a model of text and images around a text model."""
    return {"text_config": {**SHAPE, "vocab_size": 1208, **options, "model_type": kind}, **parts}


KINDS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in [*PLAIN.split(), *ENCODERS.split()]},
    **dict.fromkeys(HALVES.split(), HALF),
    **dict.fromkeys(SPARSE_KINDS.split(), SPARSE),
    **{kind: {**SPARSE, **WINDOW} for kind in ("afmoe", "exaone_moe")},
    "inkling_text": {
        **{**SPARSE, "sliding_window_size": 16, "swa_head_dim": 8, "swa_num_attention_heads": 4},
        "swa_num_key_value_heads": 2,
    },
    "gpt-sw3": GPT,
    "kimi_linear": {
        **{**SPARSE, **HYBRID},
        "linear_attn_config": {
            **{"full_attn_layers": [2], "kda_layers": [1], "num_heads": 4, "head_dim": 8, "short_conv_kernel_size": 4},
        },
    },
    "lfm2_moe": {**EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mimo_v2_flash": {**ROUTED, **WINDOW, "num_attention_heads": 8, "num_key_value_heads": 4, "v_head_dim": 8},
    "zaya": {**EXPERTS, "num_experts_per_tok": 1},
    "deepseek_v4": {
        **{**ROUTED, **WINDOW, "num_key_value_heads": 1, "head_dim": 16, "q_lora_rank": 16, "o_groups": 2},
        **{"o_lora_rank": 16, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 8},
    },
    "cpmant": {},
    "reformer": {
        **{"is_decoder": True, "attention_head_size": 8, "axial_pos_shape": [16, 32], "axial_pos_embds_dim": [16, 16]},
        **{"num_hidden_layers": None, "attn_layers": ["local", "local"], "feed_forward_size": 64},
        "tie_word_embeddings": False,
    },
    "xlnet": {
        **{"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "max_position_embeddings": None},
        **{"num_hidden_layers": None, "num_attention_heads": None, "hidden_size": None},
    },
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
    "zamba": {
        **{"mamba_d_state": 8, "n_mamba_heads": 2, "mamba_dt_rank": 8, "attn_layer_period": 2, "attn_layer_offset": 1},
        **{"use_mamba_kernels": False, "attention_hidden_size": 64, "attention_head_dim": 16, "num_key_value_heads": 4},
        **{"num_hidden_layers": 6, "head_dim": None},
    },
    "dbrx": {
        **{"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512, "tie_word_embeddings": False},
        **dict.fromkeys(["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"]),
        **dict.fromkeys(["num_key_value_heads", "max_position_embeddings"]),
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {
            **{"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
            "ffn_act_fn": {"name": "silu"},
        },
    },
    "git": {"vision_config": VISION},
    "prophetnet": {
        **{"num_decoder_layers": 2, "num_encoder_layers": 2, "decoder_ffn_dim": 64, "encoder_ffn_dim": 64},
        **{"num_decoder_attention_heads": 4, "num_encoder_attention_heads": 4, "num_hidden_layers": None},
        "num_attention_heads": None,
    },
    "mamba": {"state_size": 8, "expand": 2},
    "mamba2": {"state_size": 8, "expand": 2, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "falcon_mamba": {"state_size": 8},
}
KINDS |= {
    "gemma3": _wrapped(
        "gemma3_text", WINDOW, vision_config={**VISION, "model_type": "siglip_vision_model"}, mm_tokens_per_image=4
    ),
    "got_ocr2": _wrapped("qwen2", {}, vision_config={**VISION, "mlp_dim": 16, "output_channels": 16}),
    "gemma4": _wrapped("gemma4_text", KINDS["gemma4_text"]),
    "gemma4_unified": _wrapped("gemma4_unified_text", WINDOW),
    "llama4": _wrapped("llama4_text", SPARSE, vision_config={**VISION, "model_type": "llama4_vision_model"}),
    "qwen3_5": _wrapped("qwen3_5_text", KINDS["qwen3_5_text"]),
    "qwen3_5_moe": _wrapped("qwen3_5_moe_text", KINDS["qwen3_5_moe_text"]),
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
