"""Checkpoints to continue from, and the final policy."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from agents import distributed
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.update_per_role import RoleUpdate
from agents.policies.base import TrainablePolicy
from agents.policies.sharding import full_tensors
from agents.tracking import hub
from agents.tracking.model_card import write_cards
from agents.tracking.tracker import NullTracker, Tracker
from agents.training import checkpoint
from agents.training.folder import CHECKPOINTS, plain_config
from agents.training.resolve import RunPlan
from agents.training.state_tree import flatten, unflatten
from agents.trajectory import Choice
from reason_envs.errors import RunError, reading
from reason_envs.llm.engine import Sampling

FINAL = "policy_final"
"""Folder of the final policy, inside the run folder."""


@dataclass
class Progress:
    """The progress of a run: everything besides weights and optimizer that a resumed run needs."""

    step: int = 0
    """Training steps done."""
    generated_tokens: int = 0
    """Tokens generated in these steps."""
    best: tuple[float, int] | None = None
    """Best held-out accuracy so far and its step; ``None`` before the first evaluation."""
    warnings: dict[str, int] = field(default_factory=dict)
    """Number of steps in a row to which each warning has applied (see `agents.training.health.due_warnings`)."""
    unlogged: dict[str, Any] | None = None
    """Metrics, sample response and watched choices of the latest step, until it is logged. ``None`` afterwards."""

    def advance(self, tokens: int, metrics: Mapping[str, float], sample: str, watched: dict[str, list[Choice]]) -> None:
        """Count a training step that generated ``tokens`` tokens and has changed the weights."""
        self.step += 1
        self.generated_tokens += tokens
        choices = {role: [asdict(choice) for choice in sampled] for role, sampled in watched.items()}
        self.unlogged = {"metrics": dict(metrics), "sample": sample, "responses": choices}

    def watched(self) -> dict[str, list[Choice]]:
        """Return the choices of the latest step on which learner and engine are compared."""
        stored = self.unlogged.get("responses", {}) if self.unlogged else {}  # older checkpoints have none
        return {
            role: [Choice(**{**c, "sampling": c["sampling"] and Sampling(**c["sampling"])}) for c in choices]
            for role, choices in stored.items()
        }

    def is_best(self, metrics: Mapping[str, float]) -> bool:
        """Return whether this step has the best held-out accuracy so far, and remember it if so."""
        accuracy = metrics.get("eval/accuracy")
        if accuracy is None or (self.best is not None and accuracy <= self.best[0]):
            return False
        self.best = (accuracy, self.step)
        return True


class Saver:
    """Writes and restores a run's checkpoints; if several processes train, the first one writes."""

    def __init__(self, plan: RunPlan, policy: TrainablePolicy, optimizer: Optimizer | RoleUpdate) -> None:
        self._plan = plan
        self._config = plain_config(plan.config)
        self._policy = policy
        self._optimizer = optimizer
        self._saved: int | None = None
        self._folder = plan.folder / CHECKPOINTS
        self.sampler: Mapping[str, Tensor] = {}
        """Weights that sample the episodes of the next step. Empty: the present ones."""

    def save(self, progress: Progress) -> None:
        """Write a checkpoint of the present step, unless it exists."""
        if self._saved == progress.step:
            return
        tensors, structure = flatten(self._optimizer.state_dict())
        sampler = {"sampler": self.sampler} if self.sampler else {}
        groups = {"policy": self._policy.state_tensors(), "optimizer": tensors, **sampler}
        groups = {name: full_tensors(group, keep=distributed.rank() == 0) for name, group in groups.items()}
        if distributed.rank() > 0:
            self._saved = progress.step
            return
        state = {**vars(progress), "optimizer": structure, "config": self._config}
        if (metrics := self._plan.folder / "metrics.jsonl").exists():
            checkpoint.flush(metrics)  # its rows must not be older than the checkpoint
        checkpoint.save(self._folder, progress.step, groups, state)
        self._saved = progress.step
        checkpoint.prune(self._folder, self._plan.config.keep_last, {progress.best[1]} if progress.best else set())

    def save_if_due(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint every ``save_every`` steps and at the best held-out accuracy."""
        every = self._plan.config.save_every
        if every and (progress.is_best(metrics) or progress.step % every == 0):
            self.save(progress)

    @contextmanager
    def keeping_progress(self, progress: Progress, tracker: Tracker | NullTracker) -> Iterator[None]:
        """Save the last complete step, and name it, if the next one fails with any exception.

        A step is complete when its last optimizer step is done; its metrics are saved if they are not logged yet. If it
        fails between two optimizer steps, the weights are those of no step, so the latest checkpoint counts. So it does
        if the weights are sharded, since the other processes may be unable to save.
        """
        updates, first = self._optimizer.steps, progress.step
        try:
            yield
        except checkpoint.CheckpointError:
            raise
        except BaseException:
            is_complete = self._optimizer.steps == updates or progress.step > first
            if is_complete and not self._policy.is_sharded:
                self.save(progress)
            again = f"python -m agents.train resume={self._plan.folder}"
            tracker.note(f"Step {self._saved} is saved. Continue with: {again}")
            raise

    def restore(self) -> Progress:
        """Load the latest checkpoint into policy and optimizer."""
        path = checkpoint.latest(self._folder)
        tensors, state = checkpoint.load(path)
        with reading(path, "Delete that folder to use the previous checkpoint."):
            self._policy.load_state_tensors(tensors["policy"])
            structure = state.pop("optimizer")
            state.pop("config", None)
            self._optimizer.load_state_dict(unflatten(tensors["optimizer"], structure))
            progress = Progress(**state)
            self.sampler = tensors.get("sampler", {})
        self._saved = progress.step
        return progress


def export(plan: RunPlan, policy: TrainablePolicy, step: int) -> str | None:
    """Write the trained model or adapter with its card to ``policy_final``.

    It is uploaded if ``push_to_hub`` is set; the address of the upload is returned.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    first = distributed.rank() == 0
    if not (first or policy.is_sharded):
        return None
    partial, final = plan.folder / f"{FINAL}.partial", plan.folder / FINAL
    try:
        if first:
            shutil.rmtree(partial, ignore_errors=True)  # of an interrupted run
        policy.save_pretrained(partial)
        if not first:
            return None
        write_cards(partial, plan.folder)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{final} could not be written: {error}. The checkpoint of step {step} is complete: free disk space, then "
            f"run again with resume={plan.folder}."
        ) from error
    return hub.push(plan.config.push_to_hub, final, step) if plan.config.push_to_hub else None
