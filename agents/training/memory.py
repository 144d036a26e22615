"""The memory that a run needs, computed from the configuration of its model. Nothing is loaded or computed."""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoConfig, AutoModelForCausalLM

from agents.algorithms.pass_size import ACTIVATION_BYTES, MAXIMUM_TOKENS
from agents.config.cluster import Machine
from agents.config.schema import TrainConfig, options
from agents.policies.activations import SavedBytes
from agents.policies.hidden_states import after_shared_prompts, token_states
from agents.policies.language import PROBE_TOKENS
from agents.policies.log_probs import LogitsHead, token_log_probs
from agents.policies.lora import add_adapter
from agents.policies.padding import Batch
from agents.training.phases import GENERATING, UPDATING
from agents.training.resolve import RunPlan
from reason_envs.errors import OptionError, RunError
from reason_envs.llm.loading import model_path, resolve_dtype

GIB, ALWAYS, ENGINE = 1 << 30, "always", "engine"
LIBRARIES_GIB = 0.65
"""Measured memory of the interpreter with its libraries; about that of CUDA on a GPU."""
DRAWING_BYTES = 28
"""Bytes per logit while tokens are drawn."""
SMALLER = {
    **{"policy.gradient_checkpointing": True, "policy.lora_rank": 16, "policy.reference_device": "offload"},
    **{"algo.micro_batch_size": 1, "engine.max_batch_size": 16},
}
"""Options that a refusal tries."""
Needs = Mapping[str, Mapping[str, float]]
"""GiB of each part by phase."""


class UsedBytes(TorchDispatchMode):
    """Counts the bytes in use (``now``) of tensors that operations create, and their ``peak``; not ``weights``."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage()._cdata for tensor in weights}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for storage in (tensor.untyped_storage() for tensor in tree_iter(out) if isinstance(tensor, Tensor)):
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
        return out

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def exclude_gradient(self, weight: Tensor) -> None:
        """Stop counting the gradient of a weight."""
        self.now -= 0 if weight.grad is None else weight.grad.nbytes


class LearnerMemory:
    """Measures the model that a policy trains. Passes of one and two layers tell what the others need."""

    def __init__(self, policy: Any, device: torch.device) -> None:
        self._policy = policy
        full = "float32" if policy.dtype == "auto" and not policy.lora_rank else policy.dtype
        self.dtype, self._precision = resolve_dtype(full, device), resolve_dtype(policy.precision, device)
        whole = self._built(None)
        self.config, self.weights = whole.config.get_text_config(), list(whole.parameters())

    def cache_bytes(self) -> float:
        """Return the bytes of keys and values per token."""
        return self._of_all_layers(self._cached) / PROBE_TOKENS

    def kept_bytes(self) -> float:
        """Return the bytes per token that a forward pass keeps (see ``LanguagePolicy.activation_bytes``)."""
        return self._of_all_layers(self._kept) / PROBE_TOKENS

    def pass_bytes(self, rows: int, prompts: int, prompt: int, response: int) -> int:
        """Return the peak of a forward and backward pass, without gradients of weights.

        The pass has ``rows`` of ``prompt + response`` tokens, of which ``prompts`` have different prompts.
        """
        return self._of_all_layers(lambda layers: self._peak(layers, rows, prompts, prompt, response))

    def _of_all_layers(self, measure: Callable[[int], int]) -> int:
        one, two = measure(1), measure(2)
        return one + (self.config.num_hidden_layers - 1) * (two - one)

    def _built(self, layers: int | None) -> Any:
        shape, policy = AutoConfig.from_pretrained(model_path(self._policy.model)), self._policy
        if layers is not None:
            text = shape.get_text_config()
            kinds = text.to_dict().get("layer_types")
            text.update({"num_hidden_layers": layers, **({"layer_types": kinds[:layers]} if kinds else {})})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape, dtype=self.dtype)
            if policy.gradient_checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            scale = (policy.lora_rank, policy.lora_alpha or 32, policy.lora_dropout)
            if policy.lora_rank:
                model = add_adapter(model, None, *scale, 0, policy.lora_target_modules)
            return model.train()

    def _cached(self, layers: int) -> int:
        ids = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device="meta")
        cache = self._built(layers).eval()(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        return sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))

    def _kept(self, layers: int) -> int:
        kept = []
        for rows in (1, 2):
            with self._fake(layers) as (model, weights), (saved := SavedBytes(weights)), self._autocast():
                # With a cache, transformers omits the mask, as for a real sequence without padding.
                ids, places = torch.zeros(rows, PROBE_TOKENS, dtype=torch.long), torch.arange(PROBE_TOKENS)
                model.base_model(ids, position_ids=places.repeat(rows, 1), use_cache=True)
            kept.append(saved.total)
        return kept[1] - kept[0]

    def _peak(self, layers: int, rows: int, prompts: int, prompt: int, response: int) -> int:
        with self._fake(layers) as (model, weights), UsedBytes([*weights, *model.buffers()]) as used:
            for weight in filter(lambda weight: weight.requires_grad, weights):
                weight.register_post_accumulate_grad_hook(used.exclude_gradient)
            ids, ones = torch.zeros(rows, prompt + response, dtype=torch.long), torch.ones(rows, response).bool()
            batch = Batch(ids, torch.ones_like(ids), torch.zeros_like(ids), ones, torch.arange(rows), prompt)
            with self._autocast():
                if prompts < rows:
                    states = after_shared_prompts(model, batch, torch.arange(prompts), torch.arange(rows))
                else:
                    states = token_states(model, batch, share_prompts=False)
                states, targets = states.flatten(0, 1).clone(), ids[:, prompt:].flatten()
            token_log_probs(LogitsHead(model), states, targets, torch.ones(len(targets)))[0].sum().backward()
            return used.peak

    @contextmanager
    def _fake(self, layers: int) -> Iterator[tuple[Any, list[Tensor]]]:
        """Open a context with a model of few layers, whose passes allocate nothing, and its weights."""
        model = self._built(layers)
        base = model.get_base_model() if self._policy.lora_rank else model
        with FakeTensorMode(allow_non_fake_inputs=True), torch.enable_grad():
            model.to_empty(device="cpu")
            base.tie_weights()
            yield base, list(base.parameters())

    def _autocast(self) -> Any:
        return torch.autocast("cpu", dtype=self._precision, enabled=self._precision != torch.float32)


def plan_memory(config: TrainConfig, machine: Machine) -> Needs:
    """Return what a learner and its engine hold on one device: GiB of each part by phase, for a resolved configuration.

    The phases are ``always``, ``generating`` and ``updating``. States of a sharded learner are divided by the number of
    GPUs. If Ray places the engine on another GPU, ``engine`` is what that GPU holds. An engine of this process that
    computes in the data type of trained weights shares them.
    """
    policy, algo, engine = config.policy, options(config.algo), options(config.engine)
    device = torch.device("cuda" if machine.gpus else "cpu")
    learner = LearnerMemory(policy, device)
    roles = 1 if policy.sharing == "shared" else machine.roles
    copies = roles if policy.sharing == "model_per_role" else 1
    parts = max(machine.gpus, 1) if config.cluster.learner.shard != "none" else 1
    weights = sum(weight.nbytes for weight in learner.weights)
    trained = sum(weight.nbytes for weight in learner.weights if weight.requires_grad)
    always = {
        "libraries": LIBRARIES_GIB * GIB,
        "learner: weights": weights * copies / parts,
        "learner: states of Adam": 2 * trained * roles / parts,
    }
    if (algo["kl_coef"] or algo["kl_reward_coef"]) and not policy.lora_rank and policy.reference_device == "policy":
        always["learner: reference"] = weights * copies / parts / (2 if machine.gpus else 1)
    decisions, length = algo["tasks_per_step"] * algo["samples_per_task"], policy.max_prompt_tokens + policy.max_tokens
    generating = {}
    if config.engine.name in ("transformers", "vllm"):
        size = resolve_dtype(engine["dtype"], device).itemsize / learner.dtype.itemsize
        size /= engine.get("tensor_parallel_size", 1)
        evaluated = config.eval_tasks * config.eval_samples if config.eval_every else 0
        rows = min(engine.get("max_batch_size") or engine["max_sequences"], max(decisions, evaluated))
        each = learner.cache_bytes() * size * length + DRAWING_BYTES * learner.config.vocab_size
        generating = {f"engine: {rows} samples of {length:,} tokens": rows * each}
        apart = policy.uses_lora or config.pipeline.steps_ahead or parts > 1 or size != 1
        if config.cluster.address is None and (apart or config.engine.name == "vllm"):
            always["engine: weights"] = copies * size * weights
    budget = max(machine.gib * GIB - sum(always.values()), 0) / 2 if machine.gpus else ACTIVATION_BYTES
    tokens = algo["micro_batch_tokens"] or min(MAXIMUM_TOKENS, budget / max(learner.kept_bytes(), 1))
    limits = [limit for limit in (decisions, algo["minibatch_size"], algo["micro_batch_size"]) if limit]
    rows = max(1, min(int(tokens // length), *limits))
    prompts = rows if policy.gradient_checkpointing else math.ceil(rows / algo["samples_per_task"])
    activations = learner.pass_bytes(rows, prompts, policy.max_prompt_tokens, policy.max_tokens)
    updating = {"gradients": trained / parts, f"activations of {rows} x {length:,} tokens": activations}
    if parts > 1:
        updating["gathered layers"] = gathered_bytes(learner)
    found = {ALWAYS: always, GENERATING: generating, UPDATING: updating}
    if config.cluster.address is not None and generating:
        engines = 1 / min(config.cluster.engine.gpus or 1, 1)  # on one GPU
        held = {"engine: weights": size * weights, **generating}
        found[ENGINE] = {"libraries": LIBRARIES_GIB * GIB} | {what: engines * part for what, part in held.items()}
        found[GENERATING] = {}
    return {phase: {what: size / GIB for what, size in each.items()} for phase, each in found.items()}


def gathered_bytes(learner: LearnerMemory) -> float:
    """Return the bytes of what sharded passes gather at a time.

    These are embedding and head, and two layers, in bfloat16 and with gradients in float32.
    """
    largest = max(weight.numel() for weight in learner.weights)
    layer = sum(weight.numel() for weight in learner.weights) / learner.config.num_hidden_layers
    return 6 * 2 * (largest + layer)


def peak(needs: Needs) -> tuple[float, str]:
    """Return the largest sum of the parts of a phase in GiB, and the phase."""
    always = sum(needs[ALWAYS].values())
    sums = [(always + sum(needs[phase].values()), phase) for phase in (GENERATING, UPDATING)]
    return max(*sums, (sum(needs.get(ENGINE, {}).values()), ENGINE))


def require_room(needs: Needs, config: TrainConfig, machine: Machine) -> None:
    """Check that a run fits into the memory.

    Raises:
        RunError: it does not. The message shows the arithmetic, and the peaks with other options, the best one first.
    """
    (size, phase), gib, found = peak(needs), machine.gib, []
    if size <= gib:
        return
    for key, value in SMALLER.items():
        group, _, name = key.partition(".")
        part = getattr(config, group)
        if options(part).get(name, value) != value:
            with suppress(OptionError):  # it contradicts other options
                other = replace(config, **{group: replace(part, **{name: value})})
                found.append((peak(plan_memory(other, machine))[0], f"{key}={str(value).lower()}"))
    held = {**({} if phase == ENGINE else needs[ALWAYS]), **needs[phase]}
    parts = ", ".join(f"{what} {part:.1f}" for what, part in held.items())
    smaller = ", ".join(f"{less:.1f} with {text}" for less, text in sorted(found) if less < size)
    smaller = smaller or "as much with other options"
    raise RunError(
        f"The run needs {size:.1f} GiB while {phase} ({parts}), but {gib:.1f} GiB are there. It needs {smaller}. More "
        "GPUs with cluster.learner.shard=full, shorter responses, or a smaller model need less, too."
    )


def check_room(plan: RunPlan) -> None:
    """Check that a run with ``cluster.address`` fits into the memory that is free on this computer or on its GPU.

    Raises:
        RunError: see `require_room`.
    """
    config = plan.config
    if config.cluster.address is None or not plan.writes_text:
        return
    computes_on_gpu = torch.cuda.is_available() and config.policy.device != "cpu"
    machine = Machine(gpus=config.cluster.learner.gpus if computes_on_gpu else 0)
    require_room(plan_memory(config, machine), config, machine)
