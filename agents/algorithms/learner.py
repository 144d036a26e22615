"""What every learner does: collect episodes, turn rewards into advantages, update the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from agents.algorithms.config import LearnerConfig, check_minibatches
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.sample import Sample
from agents.algorithms.update import PolicyUpdate
from agents.algorithms.update_per_role import RoleOptimizer, RoleUpdate
from agents.losses import kl_estimate
from agents.policies.base import TrainablePolicy
from agents.policies.roles import policy_parts
from agents.rollout.episodes import Episode, grouped, play
from agents.trajectory import Trajectory
from reason_envs.core import Environment, derive_seed
from reason_envs.tasks.base import TaskSet


class Learner(ABC):
    """Collects with the policy, assigns credit, and updates.

    Args:
        config: options.
        policy: what is trained.
        environment: the prototype environment to play in.
        tasks: training tasks.
        total_steps: training steps of the whole run.
        seed: the run's seed.
    """

    config: LearnerConfig
    updater: type[PolicyUpdate] = PolicyUpdate
    """What turns samples into new weights."""
    uses_values = False
    """Whether credit needs the policy's state values."""

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
        if self.uses_values:
            policy.prepare_values()
        self._validate()
        check_minibatches(config, environment.decisions_per_episode)
        self.optimizer, self._updater = self._build_update(total_steps)
        if self._uses_reference:
            policy.prepare_reference()

    def _build_update(self, total_steps: int) -> tuple[Optimizer | RoleOptimizer, PolicyUpdate | RoleUpdate]:
        """Build optimizer and update; those of a policy with several parts are each part's own."""
        optimizers, updates = {}, {}
        for name, part in policy_parts(self.policy).items():
            optimizers[name] = Optimizer(
                self.config.optimizer,
                part.parameters(),
                total_steps,
                scale_loss=part.scales_loss,
                device_type=part.device.type,
                **self._rated_apart(part),
            )
            updates[name] = self.updater(self.config, part, optimizers[name], self.seed)
        if "" in updates:
            return optimizers[""], updates[""]
        return RoleOptimizer(optimizers), RoleUpdate(updates)

    def _rated_apart(self, part: TrainablePolicy) -> dict[str, Any]:
        """Return the optimizer's options for parameters with a learning rate of their own: of most learners, none."""
        return {}

    async def collect(self, step: int) -> list[Trajectory]:
        """Play the step's episodes: a pure function of (seed, step, weights)."""
        return await play(self.environment, self.policy, self.plan(step), **self.acting(step))

    def acting(self, step: int) -> dict[str, Any]:
        """Return how the policy draws in a step, where that is not its own sampling."""
        schedule = self.config.temperature_schedule
        if not schedule.enabled:
            return {}
        return {"sampling": replace(self.policy.sampling, temperature=schedule.at(step))}

    def plan(self, step: int) -> list[Episode]:
        """Plan ``samples_per_task`` episodes of each of the step's tasks."""
        first = step * self.config.tasks_per_step
        tasks = [self.tasks.ordered(first + i, self.seed) for i in range(self.config.tasks_per_step)]
        return grouped(tasks, self.config.samples_per_task, derive_seed(self.seed, "train", step))

    @abstractmethod
    def credit(
        self, trajectories: Sequence[Trajectory], samples: Mapping[int, Sample]
    ) -> tuple[list[Sample], dict[str, float]]:
        """Write each decision's credit into its sample.

        Args:
            trajectories: the step's episodes.
            samples: the sample of every decision ``d``, under ``id(d)``.

        Returns:
            The samples to train on, and metrics.
        """

    def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Update the policy on a step's episodes and return metrics."""
        self.optimizer.training_step = step
        samples = {id(d): Sample(d) for t in trajectories for d in t.decisions}
        self._fix_log_probs(list(samples.values()))
        metrics = self._penalise_kl(list(samples.values()))
        credited, credit_metrics = self.credit(trajectories, samples)
        return {**metrics, **credit_metrics, **self._updater.run(credited, step)}

    @property
    def _uses_reference(self) -> bool:
        return self.config.kl_coef != 0 or self.config.kl_reward_coef != 0

    def _updates_twice(self, decisions: int) -> bool:
        """Whether some forward of the update is no longer at the weights that sampled."""
        return self.config.epochs_per_batch > 1 or (self.config.minibatch_size or decisions) < decisions

    def _fix_log_probs(self, samples: Sequence[Sample]) -> None:
        """Compute old and reference log-probabilities, and values, where they are needed."""
        decisions = [sample.decision for sample in samples]
        if self.uses_values or self.config.kl_reward_coef or self._updates_twice(len(decisions)):
            with torch.no_grad(), self.policy.training_mode(False):
                evaluated = self._updater.evaluate(decisions, self.config.log_prob_micro_batch_size)
                for sample, (log_probs, values) in zip(samples, evaluated, strict=True):
                    sample.old, sample.old_values = log_probs, values
        if self._uses_reference:
            with self.policy.reference():
                evaluated = self._updater.evaluate(decisions, self.config.reference_micro_batch_size)
                for sample, (log_probs, _) in zip(samples, evaluated, strict=True):
                    sample.reference = log_probs

    def _penalise_kl(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Subtract the coefficient times the response's summed KL from each decision's reward."""
        if not self.config.kl_reward_coef:
            return {}
        total = 0.0
        for sample in samples:
            assert sample.old is not None
            assert sample.reference is not None
            kl = float(kl_estimate(sample.old, sample.reference, self.config.kl_reward_kind).sum())
            sample.decision.reward -= self.config.kl_reward_coef * kl
            total += kl
        return {"kl_in_reward": total / len(samples)}

    def _validate(self) -> None:  # noqa: B027  (most learners take every policy and environment)
        """Refuse options that do not fit the policy or the environment."""
