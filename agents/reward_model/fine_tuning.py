"""Fine-tuning of a token classifier on labelled solutions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from agents.algorithms.config import OptimizerConfig
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.suited_rate import suited_rate
from agents.policies.seeding import seeded
from agents.reward_model.config import FineTuningConfig
from agents.reward_model.labels import LabelledSolution
from agents.reward_model.metrics import first_wrong
from reason_envs.core import derive_seed
from reason_envs.llm.chat import max_positions
from reason_envs.llm.embedded import is_embedded
from reason_envs.llm.loading import load_model, load_tokenizer, resolve_device, resolve_dtype
from reason_envs.reward_models.reader import pad_rows
from reason_envs.reward_models.transformers import LABELS, encode_rows, is_causal

POOL = 50
"""Number of batches that are drawn together and sorted by length."""
HEADS = ("score", "classifier")
"""Names of the head in the token classifiers of transformers."""
EMBEDDED_RATE = 1e-3
"""Learning rate that suits the embedded model."""
WARMUP_SHARE = 0.05
"""Share of the optimizer steps during which the learning rate rises."""


@dataclass(frozen=True)
class Example:
    """One row to train on."""

    token_ids: tuple[int, ...]
    """Token ids of the problem and the steps."""
    ends: tuple[int, ...]
    """Indices of the tokens at which steps end, where the labels apply."""
    labels: tuple[float, ...]
    """Label at each end, between 0 (wrong) and 1 (right)."""


def fine_tune(config: FineTuningConfig, solutions: Sequence[LabelledSolution], seed: int, folder: Path) -> float:
    """Train on labelled solutions, and save the model (bfloat16) and its tokenizer in Hugging Face format.

    The seed determines the new head, the order of examples and dropout.

    Returns:
        The maximum learning rate.
    """
    device = resolve_device(config.device)
    tokenizer = load_tokenizer(config.model, generates=False)
    with seeded(derive_seed(seed, "fine-tuning"), device):
        model = _load(config, device)
        chosen = balanced(solutions, seed) if config.balance else solutions
        chosen = _drawn(chosen, config.max_examples, derive_seed(seed, "examples"))
        examples = encode_examples(tokenizer, model, chosen)
        rate = _rate(config, model)
        _train(config, rate, model, examples, seed, tokenizer.pad_token_id or 0)
    if config.lora_rank:
        model = model.merge_and_unload()
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return rate


def encode_examples(tokenizer: Any, model: Any, solutions: Sequence[LabelledSolution]) -> list[Example]:
    """Tokenise solutions exactly as the reward model reads them. Labels beyond its maximum length are dropped."""
    causal, positions = is_causal(model), max_positions(model)
    examples = []
    for solution in solutions:
        labels = iter(solution.labels)
        for row in encode_rows(tokenizer, solution.question, solution.steps, causal=causal, positions=positions):
            pairs = [(end, next(labels)) for end in row.ends]
            kept = [(end, label) for end, label in pairs if end < len(row.token_ids)]
            if kept:
                ends, marks = zip(*kept, strict=True)
                examples.append(Example(row.token_ids, ends, marks))
    return examples


def balanced(solutions: Sequence[LabelledSolution], seed: int) -> list[LabelledSolution]:
    """Thin out the most frequent kind of solutions to the size of the second most frequent.

    The kinds are: wrong from the first step, wrong from a later step, and without a wrong step. One kind, such as
    answers that are given at once, is often so frequent that the model would learn little else.
    """
    kinds: dict[int, list[LabelledSolution]] = {}
    for solution in solutions:
        kinds.setdefault(min(first_wrong(solution.labels, 0.5), 1), []).append(solution)
    maximum = sorted(map(len, kinds.values()))[-2:][0]
    return [solution for kind in kinds.values() for solution in _drawn(kind, maximum, derive_seed(seed, "balance"))]


def step_loss(model: Any, examples: Sequence[Example], pad_id: int) -> Tensor:
    """Return the mean cross-entropy of the labels over all steps of ``examples``; a scalar with gradients."""
    ids, mask = pad_rows([example.token_ids for example in examples], pad_id)
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    rows = torch.tensor([i for i, example in enumerate(examples) for _ in example.ends])
    ends = torch.tensor([end for example in examples for end in example.ends])
    log_probs = logits[rows.to(model.device), ends.to(model.device)].float().log_softmax(-1)
    right = torch.tensor([label for example in examples for label in example.labels], device=model.device)
    return -((1 - right) * log_probs[:, 0] + right * log_probs[:, 1]).mean()


def _load(config: FineTuningConfig, device: torch.device) -> Any:
    """Load the backbone with a new head. Weights that LoRA freezes are bfloat16 on a GPU, trained ones float32."""
    model = load_model(
        config.model,
        device=device,
        dtype=resolve_dtype("auto", device) if config.lora_rank else torch.float32,
        auto_class="AutoModelForTokenClassification",
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.lora_rank:
        from peft import LoraConfig, get_peft_model

        rank, heads = config.lora_rank, list(HEADS)
        # The head is new, so all of it is trained.
        layers: Any = {"target_modules": "all-linear", "exclude_modules": heads, "modules_to_save": heads}
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, **layers))
    return model


def _drawn(solutions: Sequence[LabelledSolution], maximum: int | None, seed: int) -> list[LabelledSolution]:
    """Return a random sample of at most ``maximum`` solutions."""
    order = np.random.default_rng(seed).permutation(len(solutions))
    return [solutions[i] for i in order[:maximum]]


def _rate(config: FineTuningConfig, model: Any) -> float:
    """Return the given learning rate, or the one that suits the model."""
    if config.learning_rate is not None:
        return config.learning_rate
    if is_embedded(config.model):
        return EMBEDDED_RATE
    return suited_rate(sum(p.numel() for p in model.parameters()), lora=bool(config.lora_rank))


def _train(
    config: FineTuningConfig, rate: float, model: Any, examples: Sequence[Example], seed: int, pad_id: int
) -> None:
    batches = [b for epoch in range(config.epochs) for b in _batches(examples, config.batch_size, seed, epoch)]
    groups = [batches[i : i + config.accumulation] for i in range(0, len(batches), config.accumulation)]
    options = OptimizerConfig(learning_rate=rate, schedule="cosine", warmup_steps=int(WARMUP_SHARE * len(groups)))
    device = model.device.type
    trained = (p for p in model.parameters() if p.requires_grad)
    optimizer = Optimizer(options, trained, len(groups), device_type=device)
    model.train()
    with tqdm(groups, desc="fine-tuning") as bar:
        for group in bar:
            for batch in group:
                with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                    loss = step_loss(model, [examples[i] for i in batch], pad_id)
                optimizer.backward(loss / len(group))
            optimizer.step()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    model.eval()


def _batches(examples: Sequence[Example], size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield the indices of each batch of an epoch: random pools, sorted by length, with batches in random order."""
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    order, lengths = rng.permutation(len(examples)), np.array([len(example.token_ids) for example in examples])
    for start in range(0, len(order), POOL * size):
        pool = order[start : start + POOL * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches = [pool[i : i + size] for i in range(0, len(pool), size)]
        yield from (batches[i] for i in rng.permutation(len(batches)))
