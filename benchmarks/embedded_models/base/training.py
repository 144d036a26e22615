"""One pre-training step and its learning-rate schedule: Muon on matrices, AdamW on embeddings and norms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.embedded_models.base.curriculum import Batch


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, a plateau, linear decay to zero."""

    steps: int
    """Training steps in all."""
    warmup: int
    """Steps until the full learning rate."""
    decay: int
    """Last steps, over which the rate falls to zero."""
    matrix_lr: float
    """Muon's learning rate."""
    other_lr: float
    """AdamW's learning rate."""

    def factor(self, step: int) -> float:
        """Return the share of the full learning rate at a step (0-based)."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / self.decay)


class Trainer:
    """A model, its optimisers and its schedule."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        """Build the optimisers.

        Args:
            model: a causal language model of ``transformers`` with a ``model`` body and an ``lm_head``.
            schedule: learning rates over the steps.
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
        """Train on each batch in turn and yield its loss."""
        self.model.train()
        for step, batch in enumerate(batches, start):
            yield self.step(batch, step)

    def step(self, batch: Batch, step: int) -> float:
        """Take one step and return the mean loss of the solution's tokens before it."""
        from torch.nn.utils import clip_grad_norm_

        self._set_rates(step)
        loss = solution_loss(self.model, batch)
        loss.backward()
        clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in (self.muon, self.adamw):
            optimiser.step()
            optimiser.zero_grad()
        return loss.item()

    def _set_rates(self, step: int) -> None:
        factor = self.schedule.factor(step)
        self.muon.param_groups[0]["lr"] = self.schedule.matrix_lr * factor
        self.adamw.param_groups[0]["lr"] = self.schedule.other_lr * factor


def solution_loss(model: Any, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the solutions' tokens; logits are formed at those positions only."""
    from torch.nn.functional import cross_entropy

    device = model.device
    wanted = (batch.targets != -100).to(device)
    hidden = model.model(input_ids=batch.tokens.to(device), use_cache=False).last_hidden_state
    return cross_entropy(model.lm_head(hidden[wanted]).float(), batch.targets.to(device)[wanted])
