"""Print the memory per GPU that models of 1.5B to 72B need on 1 to 64 GPUs of 80 GB, as a markdown table.

    python -m benchmarks.memory.table        # from the root of the repository; a few minutes, no GPU is needed

The models have the shapes of Qwen2.5. The learner is sharded over all GPUs (FSDP2) and checkpoints activations; the
engine shares the GPUs, over at most 8 of which it is split, and holds 16 samples of 2,048 tokens at once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from agents.config.cluster import Machine
from agents.config.compose import compose_config
from agents.training.memory import peak, plan_memory
from agents.training.resolve import resolve

SHAPES = {
    "1.5B": (1536, 8960, 28, 12, 2),
    "3B": (2048, 11008, 36, 16, 2),
    "7B": (3584, 18944, 28, 28, 4),
    "32B": (5120, 27648, 64, 40, 8),
    "72B": (8192, 29568, 80, 64, 8),
}
"""Hidden size, size of the MLP, layers, heads, heads of keys and values."""
GPUS, MEMORY = (1, 2, 4, 8, 64), 80
OPTIONS = (
    *("engine=vllm", "policy.max_prompt_tokens=1024", "policy.max_tokens=1024", "policy.gradient_checkpointing=true"),
    *("algo.micro_batch_tokens=8192", "engine.max_sequences=16"),
)


def folder_of(name: str, parent: str) -> str:
    """Write the ``config.json`` of a model, and return its folder."""
    width, inner, layers, heads, groups = SHAPES[name]
    config = {
        **{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 151936, "pad_token_id": 151643},
        **{"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers},
        **{"num_attention_heads": heads, "num_key_value_heads": groups, "tie_word_embeddings": name in ("1.5B", "3B")},
        **{"max_position_embeddings": 32768},
    }
    folder = Path(parent) / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def cell(folder: str, rank: int, gpus: int) -> str:
    """Return the GiB of each GPU that a run needs, in parentheses if it has less."""
    options = (*OPTIONS, f"policy.model={folder}", f"policy.lora_rank={rank}")
    options += (
        f"engine.tensor_parallel_size={min(gpus, 8)}",
        f"cluster.learner.shard={'full' if gpus > 1 else 'none'}",
    )
    size, _ = peak(plan_memory(resolve(compose_config(options)).config, Machine(gpus, MEMORY)))
    return f"{size:.0f}" if size <= MEMORY else f"({size:.0f})"


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| model | trained | " + " | ".join(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS) + " |")
    print("|---" * (len(GPUS) + 2) + "|")
    with tempfile.TemporaryDirectory() as parent:
        for name in SHAPES:
            folder = folder_of(name, parent)
            for rank, trained in ((0, "all weights"), (16, "LoRA 16")):
                cells = " | ".join(cell(folder, rank, gpus) for gpus in GPUS)
                print(f"| {name} | {trained} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
