"""An episode as one token sequence for TRL: responses of the policy, and messages of the environment between them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reason_envs.core import Message
from reason_envs.errors import ReasonEnvsError

MARK = "\u2042mark\u2042"
"""Placeholder for a response in a template; the text after it follows every response."""


@dataclass
class Dialogue:
    """One episode's tokens."""

    prompt_ids: list[int]
    """Tokens of the first messages under the chat template."""
    said: list[Message]
    """All messages so far, including the responses."""
    room: int
    """Maximum number of tokens of the completion."""
    completion_ids: list[int] = field(default_factory=list)
    """Tokens of everything after the prompt."""
    mask: list[int] = field(default_factory=list)
    """Source of each completion token: 1 the policy, 0 the environment."""
    log_probs: list[float] | None = None
    """Log-probability of each completion token, 0 for tokens of the environment; ``None`` if generation has none."""
    full: bool = False
    """Whether the maximum is reached, so that no message is added."""

    @property
    def left(self) -> int:
        """Number of tokens that still fit."""
        return self.room - len(self.completion_ids)

    def add(self, token_ids: Sequence[int], log_probs: Sequence[float] | None, mine: bool) -> None:
        """Append tokens of the policy (``mine``) or of the environment."""
        self.completion_ids += token_ids
        self.mask += [int(mine)] * len(token_ids)
        if log_probs is not None:
            self.log_probs = [*(self.log_probs or []), *log_probs]


class Speaker:
    """Generates responses in dialogues with the model of TRL's ``GRPOTrainer``.

    A response has at most ``max_turn_tokens`` tokens; ``None``: as many as the dialogue has left.
    """

    def __init__(self, trainer: Any, max_turn_tokens: int | None) -> None:
        _check(trainer)
        self.trainer = trainer
        self.tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        self.max_turn_tokens = max_turn_tokens
        self.ends = set(trainer.eos_token_ids)
        self.positions = getattr(trainer.model.config, "max_position_embeddings", None)

    def begin(self, messages: list[Message]) -> Dialogue:
        """Start a dialogue with its first messages."""
        prompt_ids = self._encode(self._write(messages))
        room = self.trainer.max_completion_length
        if self.positions is not None:
            room = min(room, self.positions - len(prompt_ids))
        if room < 1:
            raise ReasonEnvsError(
                f"A prompt of {len(prompt_ids)} tokens fills the model's context of {self.positions} tokens: "
                f"{messages[-1]['content'][:80]!r}. Choose shorter problems, or a model with a longer context."
            )
        return Dialogue(prompt_ids, list(messages), room)

    def answer(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """Return the next response of each dialogue; an empty one if the dialogue is full."""
        speaking = [dialogue for dialogue in dialogues if not dialogue.full]
        texts = iter(self._generate(speaking) if speaking else [])
        return ["" if dialogue.full else next(texts) for dialogue in dialogues]

    def reply(self, dialogue: Dialogue, messages: list[Message]) -> None:
        """Append messages of the environment, unless they would leave no token for another response."""
        if dialogue.full:
            return
        new = continued(messages, dialogue.said)
        before: list[Message] = [{"role": "user", "content": "."}, {"role": "assistant", "content": MARK}]
        # The text between the end of a response and the start of the next one.
        token_ids = self._encode(self._write(before + new).rpartition(MARK)[2])
        if {dialogue.completion_ids[-1], token_ids[0]} <= self.ends:
            token_ids = token_ids[1:]  # the policy itself has ended its turn
        if len(token_ids) >= dialogue.left:
            dialogue.full = True
            return
        dialogue.add(token_ids, None if dialogue.log_probs is None else [0.0] * len(token_ids), mine=False)
        dialogue.said += new

    def _generate(self, dialogues: Sequence[Dialogue]) -> list[str]:
        contexts = [dialogue.prompt_ids + dialogue.completion_ids for dialogue in dialogues]
        limits = [min(self.max_turn_tokens or dialogue.left, dialogue.left) for dialogue in dialogues]
        with _at_most(self.trainer, max(limits)):
            token_ids, log_probs = self.trainer._generate_single_turn(contexts, None, {}, num_generations=1)
        texts = []
        for i, (dialogue, limit) in enumerate(zip(dialogues, limits, strict=True)):
            response = token_ids[i][:limit]
            dialogue.add(response, None if log_probs is None else log_probs[i][:limit], mine=True)
            texts.append(self.tokenizer.decode(response, skip_special_tokens=True))
            dialogue.said.append({"role": "assistant", "content": texts[-1]})
        return texts

    def _write(self, messages: list[Message]) -> str:
        return self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            chat_template=self.trainer.chat_template,
            **self.trainer.chat_template_kwargs,
        )

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def continued(messages: list[Message], said: Sequence[Message]) -> list[Message]:
    """Return the new messages: without the dialogue so far if they repeat it, and without a repeated system message.

    A different system message is put before the text, because most chat templates allow one at the beginning only.
    """
    # An environment may show a response as it was parsed.
    pairs = zip(messages, said, strict=False)
    repeated = (new == old or new["role"] == old["role"] == "assistant" for new, old in pairs)
    if len(messages) > len(said) and all(repeated):
        return messages[len(said) :]
    if messages[0]["role"] != "system":
        return messages
    system, first, *others = messages
    if system == said[0]:
        return [first, *others]
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others]


@contextmanager
def _at_most(trainer: Any, tokens: int) -> Iterator[None]:
    """Limit the number of tokens that the trainer generates."""
    if trainer.use_vllm:
        owner, name = trainer.vllm_generation, "max_completion_length"
    else:
        owner, name = trainer.generation_config, "max_new_tokens"
    before = getattr(owner, name)
    setattr(owner, name, tokens)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _check(trainer: Any) -> None:
    """Raise if several processes must call the model together, because their dialogues end at different turns."""
    arguments, processes = trainer.args, trainer.accelerator.num_processes
    if processes == 1:
        return
    shared = trainer.use_vllm and (arguments.vllm_mode == "server" or arguments.vllm_tensor_parallel_size > 1)
    if shared:
        raise ReasonEnvsError(
            f"{processes} processes share one vLLM (vllm_mode={arguments.vllm_mode!r}, vllm_tensor_parallel_size="
            f"{arguments.vllm_tensor_parallel_size}) and would wait for each other forever, because episodes end at "
            "different turns: use one process, or vllm_mode='colocate' without tensor parallelism."
        )
    zero = trainer.accelerator.state.deepspeed_plugin
    if not trainer.use_vllm and (trainer.is_fsdp_enabled or (zero is not None and zero.zero_stage == 3)):
        raise ReasonEnvsError(
            f"{processes} processes hold parts of one model (FSDP or DeepSpeed ZeRO-3) and would wait for each other "
            "forever, because episodes end at different turns: set use_vllm=True with vllm_mode='colocate', or let "
            "each process hold the whole model."
        )
