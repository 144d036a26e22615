"""The optimizer of every learner: AdamW with a learning-rate schedule, gradient clipping and loss scaling."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from agents import distributed
from agents.algorithms.config import OptimizerConfig
from agents.policies.sharding import full_tensor, sharded_like
from reason_envs.errors import OptionError, ReasonEnvsError


class Optimizer:
    """Accumulates gradients over micro-batches and steps. The schedule needs the training steps of the whole run.

    ``value_group`` are parameters that are clipped separately, and their peak learning rate; ``None``: the configured
    rate applies to all. ``scale_loss`` is needed if forward passes run in float16.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        parameters: Iterable[nn.Parameter],
        total_steps: int,
        *,
        value_group: tuple[Iterable[nn.Parameter], float] | None = None,
        scale_loss: bool = False,
        device_type: str = "cpu",
    ) -> None:
        if config.learning_rate is None:
            raise OptionError("learning_rate", None, "must be a number, such as 1e-5. Only a run can choose one.")
        self.config = config
        self._rate = config.learning_rate
        self.total_steps = total_steps
        self.steps = 0
        self.training_step = 0
        """The current training step, which the schedule follows, since its number of optimizer steps may vary."""
        self._parameters = list(parameters)
        self._scaler = torch.amp.GradScaler(device_type, enabled=scale_loss)
        separate, rate = value_group or ((), self._rate)
        self._value = list(separate)
        ids = {id(p) for p in self._value}
        self._main = [p for p in self._parameters if id(p) not in ids]
        groups = [*_groups(self._main, config, self._rate), *_groups(self._value, config, rate)]
        self._peaks = [group["lr"] for group in groups]
        fused = device_type in {"cpu", "cuda"} or None
        self._adamw = torch.optim.AdamW(groups, lr=self._rate, betas=(0.9, config.beta2), fused=fused)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the current training step."""
        return self._scheduled(self._rate)

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
        """Clip the gradients, take a step and clear the gradients; return ``grad_norm`` and ``learning_rate``.

        Raises:
            ReasonEnvsError: the gradients are not finite. With loss scaling the step is skipped and the scale halved
                instead.
        """
        distributed.sum_gradients(self._parameters)
        for group, peak in zip(self._adamw.param_groups, self._peaks, strict=True):
            group["lr"] = self._scheduled(peak)
        self._scaler.unscale_(self._adamw)
        limit = self.config.max_grad_norm or math.inf
        parts = [part for part in (self._main, self._value) if part]
        norms = [float(full_tensor(nn.utils.clip_grad_norm_(part, limit))) for part in parts]
        norm = math.hypot(*norms)
        if not math.isfinite(norm) and not self._scaler.is_enabled():
            self.clear()
            raise ReasonEnvsError(
                f"The gradient norm is {norm} at optimizer step {self.steps}. The weights are unchanged. Lower "
                "algo.optimizer.learning_rate, or set policy.precision=float32."
            )
        self._scaler.step(self._adamw)
        self._scaler.update()
        self.clear()
        self.steps += 1
        return {"grad_norm": norms[0], "learning_rate": self.learning_rate}

    def clear(self) -> None:
        """Clear the accumulated gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"adamw": self._adamw.state_dict(), "scaler": self._scaler.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        parameters = [parameter for group in self._adamw.param_groups for parameter in group["params"]]
        moments = {
            number: {name: sharded_like(t, parameters[number]) if t.ndim else t for name, t in tensors.items()}
            for number, tensors in state["adamw"]["state"].items()
        }
        self._adamw.load_state_dict({**state["adamw"], "state": moments})
        self._scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


def _groups(parameters: list[nn.Parameter], config: OptimizerConfig, rate: float) -> list[dict[str, Any]]:
    """Return parameter groups with and without weight decay."""
    matrices = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    decayed = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [{**group, "lr": rate} for group in decayed if group["params"]]
