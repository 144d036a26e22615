"""The base class of the learners: one training step from top to bottom, with hooks for the credit and the loss."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from agents.algorithms.config import LearnerConfig, check_minibatches
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.policy_loss import LossInputs, penalties, policy_loss
from agents.algorithms.sample import Sample, SampledTrajectory
from agents.algorithms.update import PolicyUpdate
from agents.algorithms.update_per_role import RoleUpdate
from agents.losses import kl_estimate
from agents.policies.base import TrainablePolicy
from agents.rollout.episodes import EpisodeSpec, grouped, play
from agents.trajectory import Trajectory
from reason_envs.core import Environment, derive_seed
from reason_envs.llm.engine import Sampling
from reason_envs.tasks.base import TaskSet


class Learner(ABC):
    """Trains a policy: collect -> log-probs -> credit -> mini-batches -> loss -> optimizer step.

    A subclass must implement ``credit``. It may override ``loss``, ``collect``, ``validate`` and
    ``value_parameter_group``. Every episode plays on a fork of the environment. ``total_steps`` is the number of
    training steps of the whole run.
    """

    config: LearnerConfig
    uses_values = False
    """Whether the credit needs the policy's state values."""
    skips_zero_advantages = False
    """Whether samples with advantage 0 are left out of the forward pass while ``kl_coef`` and ``entropy_coef`` are 0.
    Set it only if every term of ``loss`` is proportional to the advantages."""

    def __init__(
        self,
        config: LearnerConfig,
        policy: TrainablePolicy,
        environment: Environment,
        tasks: TaskSet,
        *,
        total_steps: int,
        seed: int,
    ) -> None:
        self.config = config
        self.policy = policy
        self.environment = environment
        self.tasks = tasks
        self.seed = seed
        self.total_steps = total_steps
        parts = [*policy.roles.values()] or [policy]
        for part in parts if self.uses_values else ():
            part.prepare_values()
        self.validate()
        check_minibatches(config, environment.decisions_per_episode)
        for part in parts if self._uses_reference else ():
            part.prepare_reference()
        policy.distribute()
        roles = {role: self._update_of(part) for role, part in policy.roles.items()}
        self.policy_update = RoleUpdate(roles) if roles else self._update_of(policy)

    @property
    def optimizer(self) -> Optimizer | RoleUpdate:
        """The optimizer of the policy, or the optimizers of its roles."""
        return self.policy_update.optimizer

    # --- the training step

    async def collect(self, step: int) -> list[Trajectory]:
        """Play the episodes of a training step, failed ones included. The result depends on seed, step and weights."""
        return await play(self.environment, self.policy, self.plan(step), sampling=self.sampling(step))

    def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Update the policy on the episodes of a training step; return the metrics of all parts."""
        sampled = [SampledTrajectory.of(trajectory) for trajectory in trajectories]
        kl_metrics = self.evaluate([sample for each in sampled for sample in each.samples])
        samples, credit_metrics = self.credit(sampled)
        return {**kl_metrics, **credit_metrics, **self.policy_update.run(samples, step)}

    def evaluate(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Compute the old and reference log-probabilities, values and KL penalties that the options need.

        The metric ``kl_in_reward`` is returned if ``kl_reward_coef`` is not 0.
        """
        config, decisions = self.config, [sample.decision for sample in samples]
        # Some forward pass of several optimizer steps no longer runs at the weights that sampled.
        updates_twice = config.epochs_per_batch > 1 or (config.minibatch_size or len(decisions)) < len(decisions)
        if self.uses_values or config.kl_reward_coef or updates_twice:
            evaluated = self.policy_update.evaluate(decisions, config.log_prob_micro_batch_size)
            for sample, (log_probs, values) in zip(samples, evaluated, strict=True):
                sample.old_log_probs, sample.old_values = log_probs, values
        if self._uses_reference:
            with self.policy.reference():
                evaluated = self.policy_update.evaluate(decisions, config.reference_micro_batch_size)
            for sample, (log_probs, _) in zip(samples, evaluated, strict=True):
                sample.reference_log_probs = log_probs
        return self._penalise_kl(samples) if config.kl_reward_coef else {}

    # --- hooks

    def validate(self) -> None:  # noqa: B027  (most learners accept every policy and environment)
        """Raise an error for options that do not fit the policy or the environment. By default all options fit."""

    @abstractmethod
    def credit(self, trajectories: Sequence[SampledTrajectory]) -> tuple[list[Sample], dict[str, float]]:
        """Set the ``advantage`` of each sample, starting from ``Sample.reward``; return the samples and metrics.

        Log-probabilities and values are already computed.
        """

    def loss(self, inputs: LossInputs, config: Any) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss of a micro-batch: the clipped policy loss plus KL and entropy terms.

        Returns:
            The loss (a scalar), and metrics. Metrics of micro-batches are averaged over tokens (see
            ``agents.losses.combine_metrics``); ``approx_kl`` and ``loss_tokens`` are added if missing.
        """
        loss, metrics = policy_loss(inputs, config)
        terms, more = penalties(inputs, config)
        return loss + terms, {**metrics, **more}

    def value_parameter_group(self, policy: TrainablePolicy) -> tuple[Iterable[nn.Parameter], float] | None:
        """Return parameters that are clipped separately and have their own learning rate, with that rate.

        By default ``None``: the configured learning rate applies to all parameters.
        """
        return None

    # --- what the steps are made of

    def plan(self, step: int) -> list[EpisodeSpec]:
        """Plan ``samples_per_task`` episodes of each task of a training step."""
        first = step * self.config.tasks_per_step
        tasks = [self.tasks.ordered(first + i, self.seed) for i in range(self.config.tasks_per_step)]
        return grouped(tasks, self.config.samples_per_task, derive_seed(self.seed, "train", step))

    def sampling(self, step: int) -> Sampling | None:
        """Return the sampling parameters of a training step; ``None`` unless the temperature follows a schedule."""
        schedule = self.config.temperature_schedule
        return replace(self.policy.sampling, temperature=schedule.at(step)) if schedule.enabled else None

    def _update_of(self, policy: TrainablePolicy) -> PolicyUpdate:
        optimizer = Optimizer(
            self.config.optimizer,
            policy.parameters(),
            self.total_steps,
            value_group=self.value_parameter_group(policy),
            scale_loss=policy.scales_loss,
            device_type=policy.device.type,
        )
        return PolicyUpdate(
            self.config, policy, optimizer, self.loss, self.seed, skips_zero_advantages=self.skips_zero_advantages
        )

    @property
    def _uses_reference(self) -> bool:
        return self.config.kl_coef != 0 or self.config.kl_reward_coef != 0

    def _penalise_kl(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Set the KL penalties: the coefficient times the KL (k1) summed over the response."""
        total = 0.0
        for sample in samples:
            assert sample.old_log_probs is not None
            assert sample.reference_log_probs is not None
            kl = float(kl_estimate(sample.old_log_probs, sample.reference_log_probs, "k1").sum())
            sample.kl_penalty = self.config.kl_reward_coef * kl
            total += kl
        return {"kl_in_reward": total / len(samples)}
