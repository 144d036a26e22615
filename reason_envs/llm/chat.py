"""Chat messages as token ids, and the limits of a model's context; shared by engines and learners."""

from typing import Any

from jinja2 import TemplateError

from reason_envs.core import Message
from reason_envs.errors import EngineError
from reason_envs.llm.engine import Engine, GenerationRequest

THOUGHT = "<think>"
"""Start of a thought."""


def encode_prompt(tokenizer: Any, prompt: list[Message] | list[int]) -> list[int]:
    """Apply the model's chat template to messages. Token ids are returned unchanged.

    If the template refuses a system message, its text is put before the first user message.

    Raises:
        EngineError: the prompt is empty, the model has no chat template, or the template refuses the messages.
    """
    if not prompt:
        raise EngineError("The prompt is empty: give at least one message or token.")
    if isinstance(prompt[0], int):
        return prompt
    if tokenizer.chat_template is None:
        raise EngineError(
            "The model's tokenizer has no chat template, so the model is probably a base model. Use an "
            "instruction-tuned model, or add a `chat_template` to its tokenizer_config.json."
        )
    try:
        encoded = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
        return list(encoded["input_ids"])
    except TemplateError as error:
        if [message["role"] for message in prompt[:2]] != ["system", "user"]:
            raise EngineError(f"The model's chat template refuses the prompt: {error}. Change the prompt.") from error
        system, user, *rest = prompt
        return encode_prompt(tokenizer, [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest])


def opens_thought(tokenizer: Any, prompt_ids: list[int] | tuple[int, ...]) -> bool:
    """Return whether the chat template begins the response with ``<think>``, as those of thinking models do."""
    return bool(tokenizer.decode(prompt_ids[-8:]).rstrip().endswith(THOUGHT))


def response_text(tokenizer: Any, request: GenerationRequest, prompt_ids: tuple[int, ...], ids: list[int]) -> str:
    """Return the text of a response, with the ``<think>`` with which a chat template begins it."""
    is_continued = isinstance(request.prompt[0], int) or not opens_thought(tokenizer, prompt_ids)
    return ("" if is_continued else THOUGHT) + str(tokenizer.decode(ids, skip_special_tokens=True))


def fits(engine: Engine, prompt: list[Message], max_tokens: int) -> bool:
    """Return whether a prompt and ``max_tokens`` more tokens fit into an engine's context.

    An engine without a tokenizer or a known context length is assumed to have room.
    """
    if engine.tokenizer is None or engine.context_length is None:
        return True
    return len(encode_prompt(engine.tokenizer, prompt)) + max_tokens <= engine.context_length


def max_positions(model: Any) -> int | None:
    """Return the maximum number of tokens that a loaded model can read; ``None`` if it sets no limit."""
    return getattr(model.config, "max_position_embeddings", None)


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return all token ids that end a response, from the generation config and the tokenizer."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
