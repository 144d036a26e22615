"""Chat messages to token ids, in one place for engines and learners."""

from __future__ import annotations

from typing import Any

from reason_envs.core import Message
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Engine


def encode_prompt(tokenizer: Any, prompt: list[Message] | list[int]) -> list[int]:
    """Apply the model's chat template to messages; token ids pass through.

    Raises:
        ReasonEnvsError: an empty prompt, or messages for a model without a chat template.
    """
    if not prompt:
        raise ReasonEnvsError("The prompt is empty: give at least one message or token.")
    if isinstance(prompt[0], int):
        return prompt
    if tokenizer.chat_template is None:
        raise ReasonEnvsError(
            "The model's tokenizer has no chat template (it is a base model). Use an instruction-tuned model, or add a "
            "`chat_template` to its tokenizer_config.json."
        )
    encoded = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(encoded["input_ids"])


def fits(engine: Engine, prompt: list[Message], max_tokens: int) -> bool:
    """Whether a prompt leaves room for ``max_tokens`` in an engine's context; yes where the engine does not tell."""
    if engine.tokenizer is None or engine.context_length is None:
        return True
    return len(encode_prompt(engine.tokenizer, prompt)) + max_tokens <= engine.context_length


def max_positions(model: Any) -> int | None:
    """Return the maximum number of tokens that a loaded model can read; ``None`` if it sets no limit."""
    return getattr(model.config, "max_position_embeddings", None)


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return every token id that ends a response, from the generation config and the tokenizer."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
