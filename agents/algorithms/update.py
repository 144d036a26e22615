"""From advantages to new weights: mini-batches, micro-batches, the loss and its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from agents import distributed
from agents.algorithms.config import LearnerConfig
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.sample import Sample, Totals, masked_mean, stack, stack_advantages
from agents.losses import LEVELS, aggregate, clipped_policy_loss, combine_metrics, importance_correction, kl_estimate
from agents.policies.base import Evaluation, TrainablePolicy
from agents.policies.padding import micro_batches
from agents.trajectory import Decision
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError


@dataclass
class _Meter:
    parts: list[dict[str, float]] = field(default_factory=list)
    loss: float = 0.0
    minibatches: int = 0
    sampler_max_ratio: float = 1.0


class PolicyUpdate:
    """Updates a policy on samples.

    Args:
        config: the learner's options.
        policy: what is trained.
        optimizer: steps its parameters.
        seed: the run's seed; keys mini-batch order and dropout.
    """

    def __init__(self, config: LearnerConfig, policy: TrainablePolicy, optimizer: Optimizer, seed: int) -> None:
        self.config = config
        self.policy = policy
        self.optimizer = optimizer
        self.seed = seed

    def evaluate(
        self, decisions: Sequence[Decision], micro_batch_size: int | None = None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Log-probabilities of every decision's tokens under the current weights, and the values: [T] each.

        Args:
            decisions: what was chosen.
            micro_batch_size: most decisions of one pass; ``None``: as many as of a pass with gradients.
        """
        result: list[tuple[Tensor, Tensor | None]] = [(torch.empty(0), None)] * len(decisions)
        cuts = self._micro_batches(decisions, micro_batch_size)
        mine = [self._rows(decisions, indices) for indices in distributed.share(cuts)]
        for indices, rows in zip(cuts, distributed.merge(mine, len(cuts)), strict=True):
            for i, row in zip(indices, rows, strict=True):
                result[i] = row
        return result

    def _rows(self, decisions: Sequence[Decision], indices: Sequence[int]) -> list[tuple[Tensor, Tensor | None]]:
        out = self.policy.evaluate([decisions[i] for i in indices])
        lengths = [len(decisions[i].choice.token_ids) for i in indices]
        return [
            (out.log_probs[row, :length], None if out.values is None else out.values[row, :length])
            for row, length in enumerate(lengths)
        ]

    def run(self, samples: Sequence[Sample], step: int) -> dict[str, float]:
        """Take every optimizer step of a training step.

        Raises:
            ReasonEnvsError: loss or gradients are not finite; the weights stay as they were.
        """
        meter = _Meter()
        metrics = {"grad_norm": 0.0, "learning_rate": self.optimizer.learning_rate}
        samples = [s for s in samples if not self._masked_out(s.decision)]
        stopped = False
        for address, minibatch in self._passes(samples, step):
            taken = self._optimize(minibatch, address, meter)
            meter.minibatches += 1
            stopped = taken is None
            if taken is None:
                break
            metrics |= taken
        meters = distributed.everyone(meter)
        parts = [part for each in meters for part in each.parts]
        return {
            "loss": sum(each.loss for each in meters) / max(1, meter.minibatches),
            "sampler_max_ratio": max(each.sampler_max_ratio for each in meters),
            **(combine_metrics(parts) if parts else {}),
            **({} if self.config.target_kl is None else {"early_stop": float(stopped)}),
            **metrics,
        }

    def _passes(self, samples: Sequence[Sample], step: int) -> Iterator[tuple[tuple[int, ...], list[Sample]]]:
        """Every mini-batch of every pass, with its address."""
        for epoch in range(self.config.epochs_per_batch):
            for number, minibatch in enumerate(self._minibatches(samples, step, epoch)):
                yield (step, epoch, number), minibatch

    def _minibatches(self, samples: Sequence[Sample], step: int, epoch: int) -> Iterator[list[Sample]]:
        """Cut a shuffled pass into mini-batches."""
        size = self.config.minibatch_size or len(samples)
        generator = np.random.default_rng(derive_seed(self.seed, "minibatches", step, epoch))
        order = generator.permutation(len(samples))
        for start in range(0, len(samples), max(size, 1)):
            yield [samples[i] for i in order[start : start + size]]

    def _micro_batches(self, decisions: Sequence[Decision], size: int | None = None) -> list[list[int]]:
        config = self.config
        return micro_batches(self.policy.lengths(decisions), config.micro_batch_tokens, size or config.micro_batch_size)

    def _optimize(self, minibatch: list[Sample], address: tuple[int, ...], meter: _Meter) -> dict[str, float] | None:
        """One optimizer step over a mini-batch, cut into micro-batches; none where nothing has a gradient.

        Returns:
            The step's metrics, or ``None`` if the policy is too far from the one that sampled to take it.
        """
        totals = self._totals(minibatch)
        working = [sample for sample in minibatch if self._has_gradient(sample)]
        if not working:
            return {}
        losses: list[float] = []
        parts = len(meter.parts)
        cuts = list(enumerate(self._micro_batches([s.decision for s in working])))
        for cut, indices in distributed.share(cuts):
            with self._seeded(derive_seed(self.seed, "dropout", *address, cut)), self.policy.training_mode(True):
                loss = self._loss([working[i] for i in indices], totals, meter)
                losses.append(float(loss.detach()))
                self.optimizer.backward(loss)
        self._check_finite(losses, address[0])
        if self._too_far(meter.parts[parts:]):
            self.optimizer.clear()
            return None
        return self.optimizer.step()

    def _too_far(self, parts: list[dict[str, float]]) -> bool:
        """Whether the mini-batch's KL to the sampling weights is above 1.5 times ``target_kl`` (as in SB3)."""
        if self.config.target_kl is None:
            return False
        gathered = [part for each in distributed.everyone(parts) for part in each]
        return combine_metrics(gathered)["approx_kl"] > 1.5 * self.config.target_kl

    def _loss(self, samples: list[Sample], totals: Totals, meter: _Meter) -> Tensor:
        """The micro-batch's share of the mini-batch loss."""
        config = self.config
        out = self.policy.evaluate([s.decision for s in samples], entropy_gradient=config.entropy_coef != 0)
        mask, new = out.mask, out.log_probs
        old = new.detach() if samples[0].old is None else stack([s.old for s in samples], new)
        extra: dict[str, float] = {}
        loss, metrics = clipped_policy_loss(
            new,
            old,
            stack_advantages(samples, new),
            mask,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            importance=config.importance,
            aggregation=config.aggregation,
            correction=self._correction(samples, old, mask, extra, meter),
            horizon=config.horizon,
            denominator=totals.loss,
        )
        loss = loss + self._further_terms(samples, out, totals, extra)
        meter.loss += float(loss.detach())
        meter.parts.append({**metrics, **extra})
        return loss

    def _further_terms(
        self, samples: list[Sample], out: Evaluation, totals: Totals, extra: dict[str, float]
    ) -> Tensor | float:
        """KL to the reference and entropy bonus, as far as they are on; ``extra`` takes metrics (means over tokens)."""
        config = self.config
        shared = (config.aggregation, config.horizon, totals.loss)
        total: Tensor | float = 0.0
        if samples[0].reference is not None:
            kl = kl_estimate(out.log_probs, stack([s.reference for s in samples], out.log_probs), config.kl_kind)
            extra["kl"] = masked_mean(kl, out.mask)
            total = total + config.kl_coef * aggregate(kl, out.mask, *shared)
        if config.entropy_coef:
            total = total - config.entropy_coef * aggregate(out.entropy, out.mask, *shared)
        return total

    def _correction(
        self, samples: list[Sample], old: Tensor, mask: Tensor, extra: dict[str, float], meter: _Meter
    ) -> Tensor | None:
        """Weights for the gap to the sampler where they are on; the gap itself is measured in any case."""
        rows = [s.decision.choice.log_probs for s in samples]
        if any(row is None for row in rows):
            if self.config.correction in LEVELS:
                raise ReasonEnvsError(
                    f"algo.correction={self.config.correction} needs the engine's log-probabilities, and it gave none: "
                    "use an engine whose capabilities include 'log_probs', or correction=off."
                )
            return None
        sampler = stack([torch.tensor(row) for row in rows], old)
        extra["sampler_kl"] = masked_mean(kl_estimate(sampler, old), mask)
        meter.sampler_max_ratio = max(meter.sampler_max_ratio, float((old - sampler)[mask].abs().max().exp()))
        level = self.config.correction
        if level == "auto":
            level = "token" if self.policy.samples_elsewhere else "off"
        return None if level == "off" else importance_correction(old, sampler, mask, level, self.config.correction_cap)

    def _masked_out(self, decision: Decision) -> bool:
        return self.config.mask_truncated and decision.choice.finish_reason == "length"

    def _has_gradient(self, sample: Sample) -> bool:
        """Whether a sample moves the weights at all; one without advantage, KL, bonus or values is not computed."""
        credited = isinstance(sample.advantage, Tensor) or sample.advantage != 0
        return bool(self.config.kl_coef or self.config.entropy_coef or credited)

    def _totals(self, samples: Sequence[Sample]) -> Totals:
        tokens = float(sum(len(s.decision.choice.token_ids) for s in samples))
        counted = tokens if self.config.aggregation == "token_mean" else float(len(samples))
        return Totals(tokens, counted, float(sum(len(s.returns) for s in samples if s.returns is not None)))

    def _check_finite(self, losses: list[float], step: int) -> None:
        strange = [loss for each in distributed.everyone(losses) for loss in each if not math.isfinite(loss)]
        if strange:
            self.optimizer.clear()
            raise ReasonEnvsError(
                f"The loss is {strange[0]} at step {step}: the weights were left as they are and the last checkpoint "
                "is good. Lower algo.optimizer.learning_rate, or use policy.precision=float32."
            )

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """Dropout draws from PyTorch's generators: seed them here and put them back afterwards."""
        device = self.policy.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
