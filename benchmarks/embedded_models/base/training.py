"""The pre-training step and its learning-rate schedule: Muon for matrices, AdamW for embeddings and norms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.embedded_models.base.curriculum import Batch


@dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule: linear warm-up, constant, linear decay to zero."""

    steps: int
    """Total number of training steps."""
    warmup: int
    """Number of steps until the full learning rate."""
    decay: int
    """Number of last steps in which the learning rate decays to zero."""
    matrix_lr: float
    """Full learning rate of Muon."""
    other_lr: float
    """Full learning rate of AdamW."""

    def factor(self, step: int) -> float:
        """Return the share of the full learning rate at a step (0-based)."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / self.decay)


class Trainer:
    """A model with its optimizers and its schedule."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        """Build the optimizers.

        Args:
            model: causal language model of ``transformers`` with the parts ``model`` and ``lm_head``.
            schedule: schedule of the learning rates.
        """
        import torch

        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        self.model: Any = model
        self.schedule = schedule
        self.muon = torch.optim.Muon(matrices, lr=schedule.matrix_lr, momentum=0.95, weight_decay=0.0)
        self.adamw = torch.optim.AdamW(others, lr=schedule.other_lr, betas=(0.9, 0.98), weight_decay=0.0)

    def run(self, batches: Iterable[Batch], start: int = 0) -> Iterator[float]:
        """Train on each batch in order and yield its loss."""
        self.model.train()
        for step, batch in enumerate(batches, start):
            yield self.step(batch, step)

    def step(self, batch: Batch, step: int) -> float:
        """Take one step and return the mean loss of the solution tokens before the step."""
        from torch.nn.utils import clip_grad_norm_

        self._set_rates(step)
        loss = solution_loss(self.model, batch)
        loss.backward()
        clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in (self.muon, self.adamw):
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    def _set_rates(self, step: int) -> None:
        factor = self.schedule.factor(step)
        self.muon.param_groups[0]["lr"] = self.schedule.matrix_lr * factor
        self.adamw.param_groups[0]["lr"] = self.schedule.other_lr * factor


def solution_loss(model: Any, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the solution tokens. Logits are computed only for them."""
    from torch.nn.functional import cross_entropy

    device = model.device
    wanted = (batch.targets != -100).to(device)
    hidden = model.model(input_ids=batch.tokens.to(device), use_cache=False).last_hidden_state
    return cross_entropy(model.lm_head(hidden[wanted]).float(), batch.targets.to(device)[wanted])
