"""A causal language model as a policy: an engine samples, the policy evaluates and trains the full model or a LoRA."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents import distributed
from agents.policies.activations import SavedBytes
from agents.policies.base import Evaluation, TrainablePolicy, sample, sampling_temperatures
from agents.policies.hidden_states import ValueHead, token_states
from agents.policies.language_config import LanguagePolicyConfig, ShardingConfig
from agents.policies.lora import add_adapter, merged_weights
from agents.policies.padding import collate, deduplicate
from agents.policies.scorer import Scorer, frozen_copy
from agents.policies.sharding import full_tensors, shard
from agents.trajectory import Choice, Decision
from reason_envs.core import AgentId, Message
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.chat import encode_prompt, max_positions
from reason_envs.llm.engine import Capability, Engine, Sampling
from reason_envs.llm.loading import is_quantized, load_model, load_tokenizer, resolve_device, resolve_dtype

_log = logging.getLogger(__name__)

CPU = torch.device("cpu")
PROBE_TOKENS = 128
"""Length of the sequence on which the memory of a pass is measured."""
VALUE_HEAD = "value_head."
"""Prefix of the value head's weights in checkpoints."""


class LanguagePolicy(TrainablePolicy):
    """Samples responses with an engine, and evaluates and trains them with its own copy of the model.

    The seed keys the initial weights of a new adapter. ``base`` is the model to train, or to add the adapter to;
    ``None``: ``load_base(config)``. With ``sharding``, the weights wait on the CPU until ``distribute`` divides them.
    """

    def __init__(
        self, config: LanguagePolicyConfig, *, seed: int = 0, base: Any = None, sharding: ShardingConfig | None = None
    ) -> None:
        self.config = config
        self.sharding = sharding
        self.uses_lora = config.uses_lora
        """Whether an adapter is trained instead of the full model."""
        self.device = resolve_device(config.device)
        self.tokenizer = load_tokenizer(config.model, config.template_options)
        self.model = load_base(config, sharding) if base is None else base
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        if self.uses_lora:
            scale = (config.lora_rank, config.lora_alpha, config.lora_dropout)
            self.model = add_adapter(self.model, config.adapter, *scale, seed, config.lora_target_modules)
        self.sampling = config.sampling()
        self.max_tokens = config.max_tokens
        self.engine: Engine | None = None
        """The engine that samples. It must be set before ``act``."""
        self.precision = resolve_dtype(config.precision, self.device)
        self._scorer = self._scorer_of(self.model, self.device)
        self._reference: Scorer | None = None
        self._evaluating = self._scorer
        self._adapter_is_new = not config.adapter
        self._warned_overlong = False
        self._activation_bytes: int | None = None
        if config.top_p < 1 or config.top_k:
            _log.warning(
                "policy.top_p=%s, policy.top_k=%s: responses are sampled from a truncated distribution, but importance "
                "ratios use the full one. Set policy.top_p=1 policy.top_k=0 unless a preset needs the truncation.",
                *(config.top_p, config.top_k),
            )
        self.scales_loss = self.precision == torch.float16

    @property
    def external_engine(self) -> bool:
        """Whether the engine is another program, whose log-probabilities differ by rounding."""
        return self.engine is not None and Capability.EXTERNAL_ENGINE in self.engine.capabilities

    def _scorer_of(self, model: Any, device: torch.device) -> Scorer:
        base = model.get_base_model() if self.uses_lora else model
        return Scorer(base, device, self.precision if device == self.device else torch.float32)

    @property
    def architecture(self) -> str:
        """Name of the model's class, such as ``"LlamaForCausalLM"``."""
        return type(self._scorer.model).__name__

    @property
    def value_head(self) -> ValueHead | None:
        """The head that computes state values. ``None`` until ``prepare_values``."""
        return self._scorer.value_head

    # --- acting

    async def act(
        self,
        observations: Sequence[list[Message]],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId] = (),
    ) -> list[Choice]:
        """Sample one response per conversation; one model plays all agents, whose prompts the environment writes."""
        return await sample(self.engine, observations, seeds, sampling or self.sampling)

    @property
    def prompt_limit(self) -> int:
        """Maximum number of tokens per prompt: the option, or less if a response would not fit model and engine."""
        limits = [max_positions(self.model), None if self.engine is None else self.engine.context_length]
        room = [limit - self.max_tokens for limit in limits if limit is not None]
        return min([self.config.max_prompt_tokens, *room])

    def prompt_length(self, messages: list[Message]) -> int:
        """Return the number of tokens of a prompt."""
        return len(encode_prompt(self.tokenizer, messages))

    def fits(self, observation: list[Message]) -> bool:
        """Return whether a conversation leaves room for a response; warn about the first one that does not."""
        length, limit = self.prompt_length(observation), self.prompt_limit
        if length > limit and not self._warned_overlong:
            self._warned_overlong = True
            _log.warning(
                "Prompt of %d tokens exceeds the limit of %d mid-episode (policy.max_prompt_tokens=%d, or the context "
                "length of model and engine minus policy.max_tokens=%d). The agent's turn is skipped (metric: "
                "overlong_prompts).",
                *(length, limit, self.config.max_prompt_tokens, self.max_tokens),
            )
        return length <= limit

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate stored tokens under the current weights, or within ``reference()`` under the frozen ones."""
        chosen, place = deduplicate(decisions)
        scorer = self._evaluating
        batch = collate(chosen, self.tokenizer.pad_token_id).to(scorer.device)
        mask, place = batch.response_mask, place.to(scorer.device)
        temperatures = torch.tensor(sampling_temperatures(chosen), device=scorer.device)
        temperatures = temperatures[:, None].expand(mask.shape)[mask]
        log_probs, entropy, values = scorer(batch, temperatures, entropy_gradient=entropy_gradient)
        empty = torch.zeros(mask.shape, dtype=torch.float32, device=scorer.device)
        rows = [empty.masked_scatter(mask, log_probs), empty.masked_scatter(mask, entropy), mask]
        if values is not None:
            rows.append(empty.masked_scatter(mask, values))
        return Evaluation(*(tensor.index_select(0, place).to(self.device) for tensor in rows))

    def activation_bytes(self) -> int:
        """Return the bytes per token that a forward pass keeps, without the head: what a second sequence adds.

        The first sequence also keeps what serves all tokens, such as copies of the weights in another data type.
        """
        if self._activation_bytes is not None:
            return self._activation_bytes
        ids = [self.tokenizer.eos_token_id] * PROBE_TOKENS
        scorer, kept = self._scorer, []
        choice = Choice(ids[: PROBE_TOKENS // 2], None, self.sampling, "stop", 0, ids[PROBE_TOKENS // 2 :], "")
        for rows in (1, 2):
            batch = collate([Decision("", "", 0, choice, 0.0, "")] * rows, self.tokenizer.pad_token_id)
            saved, generators = SavedBytes(scorer.parameters()), torch.random.fork_rng(devices=[])
            with torch.enable_grad(), generators, self.training_mode(True), scorer.autocast(), saved:
                token_states(scorer.model, batch.to(scorer.model.device), share_prompts=False)
            kept.append(saved.total)
        return (kept[1] - kept[0]) // PROBE_TOKENS

    def recompute_activations(self) -> bool:
        """Switch gradient checkpointing on; return whether it was off and the model supports it."""
        model = self._scorer.model
        if model.is_gradient_checkpointing or not model.supports_gradient_checkpointing:
            return False
        model.gradient_checkpointing_enable({"use_reentrant": False})
        return True

    def prepare_values(self) -> None:
        """Add the value head, unless a checkpoint has added it."""
        if self.value_head is None:
            self._scorer.value_head = ValueHead(self.model.get_output_embeddings().weight.shape[1]).to(self.device)

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the value head's parameters."""
        return iter(()) if self.value_head is None else self.value_head.parameters()

    def at_observation(self, decision: Decision, observation: list[Message]) -> Decision:
        """Return a copy of a decision after another conversation, cut to its first token."""
        prompt = encode_prompt(self.tokenizer, observation)
        choice = replace(decision.choice, prompt_ids=prompt, token_ids=decision.choice.token_ids[:1])
        return replace(decision, choice=choice, observation=observation)

    def prepare_reference(self) -> None:
        """Freeze the current weights as the reference. For a new LoRA adapter the reference is the base model."""
        if not self.uses_lora or not self._adapter_is_new:
            place = self.device if self.config.reference_device == "policy" and self.sharding is None else CPU
            device = CPU if self.config.reference_device == "cpu" else self.device
            coarse = device == self.device and self.precision == torch.bfloat16
            model = frozen_copy(self.model, place, torch.bfloat16 if coarse else None)
            self._reference = self._scorer_of(model, device)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Evaluate with the reference weights, without gradients and dropout."""
        without = self.model.disable_adapter() if self._reference is None else nullcontext()
        self._evaluating = self._reference or self._scorer
        try:
            self._move_reference(self.device)
            with without, torch.no_grad(), self.training_mode(False):
                yield
        finally:
            self._evaluating = self._scorer
            self._move_reference(CPU)

    def _move_reference(self, device: torch.device) -> None:
        """Move a reference that is kept in the computer's memory (``reference_device=offload``)."""
        if self._reference is not None and self.config.reference_device == "offload" and not self.is_sharded:
            self._reference.to(device)

    @contextmanager
    def training_mode(self, enabled: bool) -> Iterator[None]:
        """Switch dropout and gradient checkpointing on or off, and restore them afterwards."""
        before = self.model.training
        self.model.train(enabled)
        try:
            yield
        finally:
            self.model.train(before)

    def distribute(self) -> None:
        """Divide the weights over the processes, as ``sharding`` says (see `agents.policies.sharding.shard`)."""
        if self.sharding is None:
            return
        self._activation_bytes = self.activation_bytes()
        by_node, offload = self.sharding.shard == "hybrid", self.sharding.offload == "all"
        shard(self._scorer, by_node=by_node, offload=offload)
        if self._reference is not None and self._reference.device == self.device:
            shard(self._reference, by_node=by_node, offload=offload or self.config.reference_device == "offload")
        self.is_sharded = True

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over the trainable parameters with their names."""
        head = {} if self.value_head is None else {f"{VALUE_HEAD}{n}": p for n, p in self.value_head.named_parameters()}
        return chain(((n, p) for n, p in self.model.named_parameters() if p.requires_grad), head.items())

    def export_weights(self) -> dict[str, Tensor]:
        """Return the full weights under the base model's names, the adapter merged in."""
        return merged_weights(self.model)

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of ``state_tensors``; add the value head if the weights contain one.

        Raises:
            ReasonEnvsError: the weights belong to another model or another LoRA rank.
        """
        if any(name.startswith(VALUE_HEAD) for name in tensors):
            self.prepare_values()
        super().load_state_tensors(tensors)
        self._adapter_is_new = False

    def save_pretrained(self, folder: Path) -> None:
        """Write the model (or adapter) and the tokenizer in Hugging Face format; the process of rank 0 writes."""
        weights = full_tensors(self.model.state_dict(keep_vars=True), keep=distributed.rank() == 0)
        if distributed.rank() == 0:
            self.model.save_pretrained(folder, state_dict=weights)
            self.tokenizer.save_pretrained(folder)


def load_base(config: LanguagePolicyConfig, sharding: ShardingConfig | None = None) -> Any:
    """Load the model that a policy trains or adds its adapter to; on the CPU if it will be sharded."""
    device = resolve_device(config.device)
    full = "float32" if config.dtype == "auto" and not config.uses_lora else config.dtype
    place = device if sharding is None else CPU
    model = load_model(config.model, device=place, dtype=resolve_dtype(full, device), attention=config.attention)
    if is_quantized(model):
        raise ReasonEnvsError(
            f"policy.model={config.model!r} is stored quantized. Quantized weights can neither be trained nor sent to "
            "an engine: use the unquantized model (policy.lora_rank=16 saves memory)."
        )
    return model
