"""From samples to new weights: mini-batches, the loss, optimizer steps."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import distributed
from agents.algorithms.config import LearnerConfig
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.pass_size import PassSize
from agents.algorithms.policy_loss import LossInputs
from agents.algorithms.sample import Sample, masked_mean, stack
from agents.losses import LEVELS, combine_metrics, importance_correction, kl_estimate
from agents.policies.base import TrainablePolicy
from agents.policies.seeding import seeded
from agents.trajectory import Decision
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError

Metrics = dict[str, float]
Loss = Callable[[LossInputs, Any], tuple[Tensor, Metrics]]
"""The signature of ``Learner.loss``."""


class PolicyUpdate:
    """Updates one policy on samples. The seed keys the order of mini-batches and dropout.

    With ``skips_zero_advantages``, a sample with advantage 0 has no gradient unless KL or entropy terms are on.
    """

    def __init__(
        self,
        config: LearnerConfig,
        policy: TrainablePolicy,
        optimizer: Optimizer,
        loss: Loss,
        seed: int,
        *,
        skips_zero_advantages: bool = False,
    ) -> None:
        self.config = config
        self.policy = policy
        self.optimizer = optimizer
        self.loss = loss
        self.seed = seed
        self._pass_size = PassSize(policy, config.micro_batch_tokens)
        self._needs_all = not skips_zero_advantages or bool(config.kl_coef or config.entropy_coef)

    def evaluate(
        self, decisions: Sequence[Decision], micro_batch_size: int | None = None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Evaluate decisions without gradients and dropout, at most ``micro_batch_size`` per pass.

        ``None`` stands for ``config.micro_batch_size``.

        Returns:
            Log-probabilities and values (``None`` if the policy has none) of each decision's tokens, [T] each, on the
            CPU.
        """
        result: list[tuple[Tensor, Tensor | None]] = [(torch.empty(0), None)] * len(decisions)
        cuts = self._pass_size.cut(decisions, micro_batch_size or self.config.micro_batch_size)
        with torch.no_grad(), self.policy.training_mode(False):
            mine = [self._rows(decisions, indices) for _, indices in self._turns(decisions, cuts)]
        for indices, rows in zip(cuts, distributed.unshard(mine, len(cuts)), strict=True):
            for i, row in zip(indices, rows, strict=True):
                result[i] = row
        return result

    def _turns(self, decisions: Sequence[Decision], cuts: Sequence[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """Iterate over the passes of this process, each with its number.

        If the weights are sharded, all processes run the same number of passes: one that lacks a pass evaluates its
        shortest decision with weight 0.
        """
        turns = distributed.shard(list(enumerate(cuts)))
        yield from turns
        if self.policy.is_sharded and len(turns) * distributed.size() < len(cuts):
            lengths = self.policy.lengths(decisions)
            out = self.policy.evaluate([decisions[lengths.index(min(lengths))]])
            if torch.is_grad_enabled():
                total = out.log_probs.sum() + (0.0 if out.values is None else out.values.sum())
                self.optimizer.backward(0.0 * total)

    def _rows(self, decisions: Sequence[Decision], indices: Sequence[int]) -> list[tuple[Tensor, Tensor | None]]:
        out = self.policy.evaluate([decisions[i] for i in indices])
        log_probs, values = out.log_probs.cpu(), None if out.values is None else out.values.cpu()
        lengths = [len(decisions[i].choice.token_ids) for i in indices]
        # Copies, since a view of a row is sent to other processes with the whole tensor.
        return [
            (log_probs[row, :length].clone(), None if values is None else values[row, :length].clone())
            for row, length in enumerate(lengths)
        ]

    def run(self, samples: Sequence[Sample], step: int) -> Metrics:
        """Take every optimizer step of a training step.

        Returns:
            Metrics of the loss (means over tokens), of the optimizer, and of the gap between engine and learner.

        Raises:
            ReasonEnvsError: the loss or the gradients are not finite. The weights stay unchanged.
        """
        self.optimizer.training_step = step
        metrics = {"grad_norm": 0.0, "learning_rate": self.optimizer.learning_rate}
        computed: list[tuple[float, Metrics]] = []
        minibatches, stopped = 0, False
        for address, minibatch in self._minibatches(samples, step):
            minibatches += 1
            contributing = [s for s in minibatch if self._needs_all or isinstance(s.advantage, Tensor) or s.advantage]
            if not contributing:
                continue
            parts = self._backward(contributing, self._counts(minibatch), address)
            computed += parts
            target = self.config.target_kl
            # As in SB3: the KL to the sampling weights is above 1.5 times ``target_kl``.
            stopped = target is not None and combine_metrics([part for _, part in parts])["approx_kl"] > 1.5 * target
            if stopped:
                self.optimizer.clear()
                break
            metrics = self.optimizer.step()
        return {
            "loss": sum(loss for loss, _ in computed) / max(1, minibatches),
            "sampler_max_ratio": 1.0,
            **(combine_metrics([part for _, part in computed]) if computed else {}),
            **({} if self.config.target_kl is None else {"early_stop": float(stopped)}),
            **metrics,
        }

    def _minibatches(self, samples: Sequence[Sample], step: int) -> Iterator[tuple[tuple[int, ...], list[Sample]]]:
        """Iterate over the mini-batches of every pass, each with its address (step, pass, number)."""
        if self.config.mask_truncated:
            samples = [sample for sample in samples if sample.decision.choice.finish_reason != "length"]
        size = self.config.minibatch_size or max(len(samples), 1)
        for epoch in range(self.config.epochs_per_batch):
            order = np.random.default_rng(derive_seed(self.seed, "minibatches", step, epoch)).permutation(len(samples))
            for number, start in enumerate(range(0, len(samples), size)):
                yield (step, epoch, number), [samples[i] for i in order[start : start + size]]

    def _backward(
        self, samples: list[Sample], counts: Metrics, address: tuple[int, ...]
    ) -> list[tuple[float, Metrics]]:
        """Add a mini-batch's gradients; return loss and metrics of every micro-batch, those of all processes."""
        decisions = [s.decision for s in samples]
        while True:
            cuts = self._pass_size.cut(decisions, self.config.micro_batch_size)
            try:
                parts = list(self._passes(samples, cuts, counts, address))
                break
            except RuntimeError as error:
                self.optimizer.clear()
                self._pass_size.halve(error, decisions, cuts)
        gathered = [part for each in distributed.all_gather(parts) for part in each]
        for loss, _ in gathered:
            if not math.isfinite(loss):
                self.optimizer.clear()
                raise ReasonEnvsError(
                    f"The loss is {loss} at step {address[0]}. The weights are unchanged and the last checkpoint is "
                    "good. Lower algo.optimizer.learning_rate, or set policy.precision=float32."
                )
        return gathered

    def _passes(
        self, samples: list[Sample], cuts: list[list[int]], counts: Metrics, address: tuple[int, ...]
    ) -> Iterator[tuple[float, Metrics]]:
        """Run the forward and backward passes of this process; yield the loss and the metrics of each."""
        # The gradient is that of the sum of all losses; sharded gradients are averaged over the processes.
        weight = distributed.size() if self.policy.is_sharded else 1
        with self.policy.training_mode(True):
            for cut, indices in self._turns([sample.decision for sample in samples], cuts):
                with seeded(derive_seed(self.seed, "dropout", *address, cut), self.policy.device):
                    loss, metrics = self._loss([samples[i] for i in indices], counts)
                    self.optimizer.backward(weight * loss)
                    yield float(loss.detach()), metrics

    def _loss(self, samples: list[Sample], counts: Metrics) -> tuple[Tensor, Metrics]:
        """Return a micro-batch's share of the mini-batch loss, with the metrics that every algorithm reports."""
        inputs, gap = self._inputs(samples, counts)
        loss, metrics = self.loss(inputs, self.config)
        if "approx_kl" not in metrics:
            kl = kl_estimate(inputs.old_log_probs, inputs.log_probs.detach())
            metrics = {**metrics, "approx_kl": masked_mean(kl, inputs.mask)}
        if "loss_tokens" not in metrics:
            metrics = {**metrics, "loss_tokens": float(inputs.mask.sum())}
        return loss, {name: float(value) for name, value in {**metrics, **gap}.items()}

    def _inputs(self, samples: list[Sample], counts: dict[str, Any]) -> tuple[LossInputs, Metrics]:
        """Run the forward pass and stack everything that the loss may use."""
        out = self.policy.evaluate([s.decision for s in samples], entropy_gradient=self.config.entropy_coef != 0)
        new, first = out.log_probs, samples[0]
        targets: dict[str, Any] = {}
        old = new.detach() if first.old_log_probs is None else stack([s.old_log_probs for s in samples], new)
        reference = first.reference_log_probs
        if first.returns is not None:
            ones = [torch.ones_like(s.returns) for s in samples if s.returns is not None]
            targets = {
                "old_values": stack([s.old_values for s in samples], new),
                "returns": stack([s.returns for s in samples], new),
                "value_mask": stack(ones, new).bool(),
            }
        advantages = [torch.as_tensor(s.advantage).expand(len(s.decision.choice.token_ids)) for s in samples]
        correction, gap = self._correction(samples, old, out.mask)
        inputs = LossInputs(
            log_probs=new,
            old_log_probs=old,
            advantages=stack(advantages, new),
            mask=out.mask,
            entropy=out.entropy,
            reference_log_probs=None if reference is None else stack([s.reference_log_probs for s in samples], new),
            correction=correction,
            values=out.values,
            **targets,
            **counts,
        )
        return inputs, gap

    def _correction(self, samples: list[Sample], old: Tensor, mask: Tensor) -> tuple[Tensor, Metrics]:
        """Return importance weights, 1 without correction, and the measured gap between engine and learner."""
        level = self.config.correction
        rows = [s.decision.choice.log_probs for s in samples]
        if any(row is None for row in rows):
            if level in LEVELS:
                raise ReasonEnvsError(
                    f"algo.correction={level} needs the engine's log-probabilities, but the engine returned none: use "
                    "an engine whose capabilities include 'log_probs', or set algo.correction=off."
                )
            return torch.ones_like(old), {}
        sampler = stack([torch.tensor(row) for row in rows], old)
        gap = {
            "sampler_kl": masked_mean(kl_estimate(sampler, old), mask),
            "sampler_max_ratio": float((old - sampler)[mask].abs().max().exp()),
        }
        if level == "auto":
            level = "token" if self.policy.external_engine else "off"
        if level == "off":
            return torch.ones_like(old), gap
        return importance_correction(old, sampler, mask, level, self.config.correction_cap), gap

    def _counts(self, samples: Sequence[Sample]) -> Metrics:
        """Count a mini-batch, so that its loss does not depend on how it is cut into micro-batches."""
        tokens = float(sum(len(s.decision.choice.token_ids) for s in samples))
        return {
            "tokens": tokens,
            "denominator": tokens if self.config.aggregation == "token_mean" else float(len(samples)),
            "value_denominator": float(sum(len(s.returns) for s in samples if s.returns is not None)),
        }
