"""The optimizer, its schedule, clipping and loss scaling, in one place for every learner."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agents import distributed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.validation import at_least

SCHEDULES = ("constant", "linear", "cosine")


@dataclass
class OptimizerConfig:
    """AdamW with warm-up, a schedule and gradient clipping."""

    learning_rate: float = 5e-5
    """Peak learning rate. The default suits the embedded model; billions of parameters want 1e-6 in full fine-tuning
    and about 1e-5 with LoRA."""
    schedule: str = "constant"
    """After the warm-up: ``constant``, ``linear`` or ``cosine`` (both fall to 0 at the last step)."""
    warmup_steps: int = 0
    """Training steps of linear warm-up."""
    weight_decay: float = 0.0
    """Decoupled weight decay on matrices (never on norms and biases)."""
    beta2: float = 0.999
    """Decay of the second moment."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 does not clip."""

    def __post_init__(self) -> None:
        least = ("learning_rate", "warmup_steps", "weight_decay", "beta2", "max_grad_norm")
        at_least(self, **dict.fromkeys(least, 0))
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)


class Optimizer:
    """Accumulates gradients over micro-batches and steps.

    Args:
        config: options.
        parameters: what is trained.
        total_steps: training steps of the whole run, for the schedule.
        apart: those of the parameters that are clipped apart from the others and have a learning rate of their own.
        apart_rate: that rate, at its peak; ``None``: the configured one.
        scale_loss: whether float16 forwards need loss scaling.
        device_type: ``"cpu"`` or ``"cuda"``, for the loss scaler.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        parameters: Iterable[nn.Parameter],
        total_steps: int,
        *,
        apart: Iterable[nn.Parameter] = (),
        apart_rate: float | None = None,
        scale_loss: bool = False,
        device_type: str = "cpu",
    ) -> None:
        self.config = config
        self.total_steps = total_steps
        self.steps = 0
        self.training_step = 0
        """The training step under way, which the schedule follows: how many optimizer steps it has may vary."""
        self._parameters = list(parameters)
        self._scaler = torch.amp.GradScaler(device_type, enabled=scale_loss)
        self._apart = list(apart)
        ids = {id(p) for p in self._apart}
        self._main = [p for p in self._parameters if id(p) not in ids]
        rated = [(self._main, config.learning_rate)]
        rated.append((self._apart, config.learning_rate if apart_rate is None else apart_rate))
        groups = [group for parameters, rate in rated for group in _groups(parameters, config, rate)]
        self._peaks = [group["lr"] for group in groups]
        self._adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2))

    @property
    def learning_rate(self) -> float:
        """The rate of the present training step."""
        return self._scheduled(self.config.learning_rate)

    def _scheduled(self, peak: float) -> float:
        config, step, warmup = self.config, self.training_step, self.config.warmup_steps
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, self.total_steps - warmup))
        factor = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return peak * factor[config.schedule]

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's gradients."""
        self._scaler.scale(loss).backward()

    def step(self) -> dict[str, float]:
        """Clip, step and clear the gradients; return ``grad_norm`` and ``learning_rate``.

        Raises:
            ReasonEnvsError: the gradients are not finite (with loss scaling the step is skipped and the scale halved).
        """
        distributed.sum_gradients(self._parameters)
        for group, peak in zip(self._adamw.param_groups, self._peaks, strict=True):
            group["lr"] = self._scheduled(peak)
        self._scaler.unscale_(self._adamw)
        limit = self.config.max_grad_norm or math.inf
        norms = [float(nn.utils.clip_grad_norm_(part, limit)) for part in (self._main, self._apart) if part]
        norm = math.hypot(*norms)
        if not math.isfinite(norm) and not self._scaler.is_enabled():
            self.clear()
            raise ReasonEnvsError(
                f"The gradient norm is {norm} at optimizer step {self.steps}: the weights were left as they are. Lower "
                "algo.optimizer.learning_rate, or use policy.precision=float32."
            )
        self._scaler.step(self._adamw)
        self._scaler.update()
        self.clear()
        self.steps += 1
        return {"grad_norm": norms[0], "learning_rate": self.learning_rate}

    def clear(self) -> None:
        """Drop the accumulated gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs."""
        return {"adamw": self._adamw.state_dict(), "scaler": self._scaler.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._adamw.load_state_dict(state["adamw"])
        self._scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


def _groups(parameters: list[nn.Parameter], config: OptimizerConfig, rate: float) -> list[dict[str, Any]]:
    """Divide parameters into those that decay and those that do not."""
    matrices = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    decayed = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [{**group, "lr": rate} for group in decayed if group["params"]]
