"""A causal language model as a policy: full fine-tuning or LoRA, sampled by an engine, evaluated here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.policies.base import Evaluation, sampling_temperatures
from agents.policies.hidden_states import token_states
from agents.policies.language_config import LanguagePolicyConfig
from agents.policies.log_probs import token_log_probs
from agents.policies.lora import add_adapter, freeze_copy, merged_weights, using_adapter
from agents.policies.padding import collate, distinct
from agents.policies.value_head import ValueHead
from agents.trajectory import Choice, Decision
from reason_envs.batching import gather
from reason_envs.core import Action, AgentId, Environment, Message
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.chat import encode_prompt, max_positions
from reason_envs.llm.engine import Capability, Engine, GenerationRequest, Sampling
from reason_envs.llm.loading import is_quantized, load_model, load_tokenizer, resolve_device, resolve_dtype

_log = logging.getLogger(__name__)

VALUE_HEAD = "value_head."
"""How the names of the value head's weights begin in checkpoints."""


class LanguagePolicy:
    """Writes responses with an engine and evaluates their tokens with its own, trainable model.

    Args:
        config: options.
        seed: of the run; a new adapter begins with it.
        base: the model to train, or to add the adapter to; ``load_base(config)`` by default.
    """

    version = 0

    def __init__(self, config: LanguagePolicyConfig, *, seed: int = 0, base: Any = None) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.tokenizer = load_tokenizer(config.model)
        self.model = self._build(load_base(config) if base is None else base, seed)
        self.sampling = config.sampling()
        self.max_tokens = config.max_tokens
        self.engine: Engine | None = None
        self.value_head: ValueHead | None = None
        self._reference: nn.Module | None = None
        self._adapter_is_new = not config.adapter
        self._told_overlong = False
        self._evaluating: Any = self.model
        self.precision = resolve_dtype(config.precision, self.device)
        if config.top_p < 1 or config.top_k:
            _log.warning(
                "policy.top_p=%s, top_k=%s: responses come from a cut distribution, but importance ratios are those of "
                "the uncut one. Use top_p=1 top_k=0 unless a preset asks for the cut.",
                config.top_p,
                config.top_k,
            )
        self.scales_loss = self.precision == torch.float16

    @property
    def uses_lora(self) -> bool:
        """Whether only an adapter is trained."""
        return self.config.uses_lora

    @property
    def samples_elsewhere(self) -> bool:
        """Whether the engine is another program, with other arithmetic than the model here."""
        return self.engine is not None and Capability.EXTERNAL_ENGINE in self.engine.capabilities

    def _build(self, model: Any, seed: int) -> Any:
        config = self.config
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if self.uses_lora:
            scale = (config.lora_rank, config.lora_alpha, config.lora_dropout)
            return add_adapter(model, config.adapter, *scale, seed, config.lora_target_modules)
        return model

    # --- acting

    def observe(self, environment: Environment, observation: Any) -> list[Message]:
        """Write the observation as chat messages."""
        return environment.render_messages(observation)

    async def act(
        self,
        observations: Sequence[list[Message]],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId] = (),
    ) -> list[Choice]:
        """Sample a response to each conversation, whoever plays (the environment writes each role's prompt).

        ``sampling`` overrides the training parameters (evaluation).
        """
        if self.engine is None:
            raise ReasonEnvsError("The policy has no engine to sample with: set `policy.engine` first.")
        sampling = sampling or self.sampling
        requests = [GenerationRequest(o, seed, sampling) for o, seed in zip(observations, seeds, strict=True)]
        generations = await gather(*(self.engine.generate(request) for request in requests))
        return [
            Choice(
                token_ids=generation.token_ids,
                log_probs=generation.log_probs,
                sampling=sampling,
                finish_reason=generation.finish_reason,
                policy_version=generation.policy_version,
                prompt_ids=generation.prompt_ids,
                text=generation.text,
            )
            for (generation,) in generations
        ]

    def action(self, environment: Environment, choice: Choice) -> Action:
        """Read the environment's action from the response."""
        return environment.parse_action(choice.text)

    @property
    def prompt_limit(self) -> int:
        """Most tokens of a prompt: as configured, or what the model and the engine leave room for beside a response."""
        limits = [max_positions(self.model), None if self.engine is None else self.engine.context_length]
        room = [limit - self.max_tokens for limit in limits if limit is not None]
        return min([self.config.max_prompt_tokens, *room])

    def prompt_length(self, messages: list[Message]) -> int:
        """Count the prompt's tokens."""
        return len(encode_prompt(self.tokenizer, messages))

    def fits(self, observation: list[Message]) -> bool:
        """Whether a conversation leaves room for a response; the first that does not is told."""
        length, limit = self.prompt_length(observation), self.prompt_limit
        if length > limit and not self._told_overlong:
            self._told_overlong = True
            _log.warning(
                "A prompt of %d tokens came up in mid-episode; %d are allowed (policy.max_prompt_tokens=%d, or the "
                "positions of model and engine less policy.max_tokens=%d). Its agent says nothing at such turns; "
                "overlong_prompts counts them.",
                length,
                limit,
                self.config.max_prompt_tokens,
                self.max_tokens,
            )
        return length <= limit

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate the stored tokens under the current weights (within ``reference()``: the frozen ones)."""
        chosen, place = distinct(decisions)
        model = self._evaluating
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        batch = collate(chosen, self.tokenizer.pad_token_id).to(base.device)
        mask = batch.response_mask
        temperatures = torch.tensor(sampling_temperatures(chosen), device=base.device)
        temperatures = temperatures[:, None].expand(mask.shape)[mask]
        with self._autocast():
            states = token_states(base, batch, share_prompts=not self.config.gradient_checkpointing)[mask]
            log_probs, entropy = token_log_probs(
                base.get_output_embeddings(),
                states,
                batch.input_ids[:, batch.prompt_width :][mask],
                temperatures,
                entropy_gradient=entropy_gradient,
            )
        place = place.to(base.device)
        empty = torch.zeros(mask.shape, dtype=torch.float32, device=base.device)
        rows = [empty.masked_scatter(mask, log_probs), empty.masked_scatter(mask, entropy), mask]
        if self.value_head is not None and model is self.model:
            rows.append(empty.masked_scatter(mask, self.value_head(states)))
        return Evaluation(*(tensor.index_select(0, place).to(self.device) for tensor in rows))

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return prompt plus response tokens of each decision."""
        return [len(d.choice.prompt_ids) + len(d.choice.token_ids) for d in decisions]

    def prepare_values(self) -> None:
        """Build the value head, unless a checkpoint brought one."""
        if self.value_head is None:
            width = self.model.get_output_embeddings().weight.shape[1]
            self.value_head = ValueHead(width).to(self.device)

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the value head's parameters."""
        return iter(()) if self.value_head is None else self.value_head.parameters()

    def moved(self, decision: Decision, observation: list[Message]) -> Decision:
        """Return the decision as if it had been taken after another conversation."""
        prompt = encode_prompt(self.tokenizer, observation)
        choice = replace(decision.choice, prompt_ids=prompt, token_ids=decision.choice.token_ids[:1])
        return replace(decision, choice=choice, observation=observation)

    def prepare_reference(self) -> None:
        """Freeze the present weights as the reference (a new LoRA needs no copy: its reference is the base model)."""
        if not self.uses_lora or not self._adapter_is_new:
            where = self.device if self.config.reference_device == "policy" else torch.device("cpu")
            self._reference = freeze_copy(self.model, where)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Evaluate with the reference weights, without dropout or gradients."""
        without = using_adapter(self.model, enabled=False) if self._reference is None else nullcontext()
        self._evaluating = self.model if self._reference is None else self._reference
        try:
            self._move_reference(self.device)
            with without, torch.no_grad(), self.training_mode(False):
                yield
        finally:
            self._evaluating = self.model
            self._move_reference(torch.device("cpu"))

    def _move_reference(self, device: torch.device) -> None:
        """Move a reference that is not to lie on the policy's device."""
        if self._reference is not None and self.config.reference_device == "offload":
            self._reference.to(device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    @contextmanager
    def training_mode(self, enabled: bool) -> Iterator[None]:
        """Switch dropout (and gradient checkpointing) on or off, and back afterwards."""
        before = self.model.training
        self.model.train(enabled)
        try:
            yield
        finally:
            self.model.train(before)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the trainable parameters."""
        return (p for _, p in self.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over the trainable parameters with their names."""
        head = {} if self.value_head is None else {f"{VALUE_HEAD}{n}": p for n, p in self.value_head.named_parameters()}
        return chain(((n, p) for n, p in self.model.named_parameters() if p.requires_grad), head.items())

    def export_weights(self) -> dict[str, Tensor]:
        """Return the full weights under the base model's names, the adapter merged in."""
        return merged_weights(self.model)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the trainable weights by name."""
        return {name: p.detach() for name, p in self.named_parameters()}

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``state_tensors`` returned; a value head comes with its checkpoint.

        Raises:
            ReasonEnvsError: the checkpoint belongs to another model or another LoRA rank.
        """
        if any(name.startswith(VALUE_HEAD) for name in tensors):
            self.prepare_values()
        own = dict(self.named_parameters())
        if own.keys() != tensors.keys() or any(own[n].shape != t.shape for n, t in tensors.items()):
            raise ReasonEnvsError(
                "The checkpoint's weights do not fit the configured policy: use the run's own policy.model and LoRA "
                "options."
            )
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        self._adapter_is_new = False

    def save_pretrained(self, folder: Path) -> None:
        """Write the model (or adapter) and the tokenizer in Hugging Face format."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_base(config: LanguagePolicyConfig) -> Any:
    """Load the model that a policy trains, or adds its adapter to."""
    device = resolve_device(config.device)
    full = "float32" if config.dtype == "auto" and not config.uses_lora else config.dtype
    model = load_model(config.model, device=device, dtype=resolve_dtype(full, device), attention=config.attention)
    if is_quantized(model):
        raise ReasonEnvsError(
            f"policy.model={config.model!r} is stored quantized: such weights can neither be trained nor sent to an "
            "engine. Give the model as it was before (policy.lora_rank=16 saves memory)."
        )
    return model
