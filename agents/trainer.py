"""The loop of a run: collect, update, synchronise, evaluate, save; interrupted and resumed without a trace."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from safetensors import SafetensorError

from agents import checkpoint
from agents.checkpoint import CheckpointError
from agents.config import TrainConfig, options
from agents.evaluate import EvaluationResult, evaluate_policy, first_tasks
from agents.learner import Learner
from agents.registry import ALGORITHMS
from agents.runs import CHECKPOINTS, CONFIG_FILE, Run, build, check_prompts, write_config
from agents.sync import WeightSync
from agents.tracking import Tracker
from agents.trajectory import Trajectory
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import greedy

FINAL = "policy_final"


class Trainer:
    """Runs a configuration from its first step, or from a run folder's latest checkpoint, to its last.

    Args:
        config: the run's configuration.
        resuming: whether ``config.output_dir`` holds the run to continue.
    """

    def __init__(self, config: TrainConfig, *, resuming: bool = False) -> None:
        self.config = config
        self.folder = Path(config.output_dir)
        self._resuming = resuming
        if not resuming and (self.folder / CONFIG_FILE).exists():
            raise ReasonEnvsError(
                f"output_dir={self.folder} holds a run already. Continue it with resume={self.folder}, or choose "
                "another folder."
            )
        if resuming:
            # Now rather than after loading the model: there may be nothing to continue from.
            checkpoint.latest(self.folder / CHECKPOINTS)
        with _naming_phase("loading the model", config):
            self.run: Run = build(config)
        self.step = 0
        self.generated_tokens = 0
        self.best: tuple[float, int] | None = None
        self._saved: int | None = None
        self._stop_signal: int | None = None

    async def train(self) -> int | None:
        """Train to the end, or until a signal or ``max_minutes`` stops the run after a step.

        Returns:
            The signal that ended the run early, or ``None``.
        """
        await self._prepare()
        with self._tracker, self._signals():
            self._announce()
            with _naming_phase("sending weights to the engine", self.config):
                await self.sync.canary()
            if self._resuming:
                self._restore()
                await self.sync.push(self.step)
            if self.step == 0:
                await self._evaluate()
            await self._steps()
            if self._stop_signal is None:
                await self._evaluate()
                self._save_final()
            else:
                self._tracker.note(f"Stopped by {signal.Signals(self._stop_signal).name}; step {self.step} is saved.")
        return self._stop_signal

    async def _steps(self) -> None:
        """Train step by step; a checkpoint of the last whole step is written even if an error ends the loop."""
        started = time.monotonic()
        limit = math.inf if self.config.max_minutes is None else 60 * self.config.max_minutes
        while self.step < self.total_steps and self._stop_signal is None and time.monotonic() - started < limit:
            updates = self.learner.optimizer.steps
            try:
                await self._train_step()
            except CheckpointError:
                raise
            except ReasonEnvsError:
                if self.learner.optimizer.steps == updates:
                    self._save()
                raise
        self._save()

    async def _prepare(self) -> None:
        """Check the prompts, then build the learner: everything that can be wrong is found before the first step."""
        config, run = self.config, self.run
        run.train_tasks = await check_prompts(run, run.train_tasks)
        if config.eval_every:
            run.test_tasks = await check_prompts(run, run.test_tasks)
        algorithm = ALGORITHMS[config.algo.name]
        algo_config = algorithm.config_class()(**options(config.algo))
        self.total_steps = _total_steps(config, len(run.train_tasks), algo_config.tasks_per_step)
        with _naming_phase("copying the reference", config):
            self.learner: Learner = algorithm.load()(
                algo_config,
                run.policy,
                run.environment,
                run.train_tasks,
                total_steps=self.total_steps,
                seed=config.seed,
            )
        self.sync = WeightSync(run.policy, run.engine)
        if not self._resuming:
            # Only now: a folder is not taken by a run that could not begin.
            self.folder.mkdir(parents=True, exist_ok=True)
            write_config(self.folder, config)
        self._tracker = Tracker(self.folder, self.total_steps, wandb=config.wandb, log_every=config.log_every)

    # --- one step

    async def _train_step(self) -> None:
        started = time.monotonic()
        with _naming_phase("generating", self.config):
            trajectories = await self.learner.collect(self.step)
        generated = time.monotonic()
        metrics = self._describe(trajectories)
        with _naming_phase("updating", self.config):
            metrics |= self.learner.update(trajectories, self.step)
        updated = time.monotonic()
        self.step += 1
        with _naming_phase("sending weights to the engine", self.config):
            metrics["sync_gap"] = await self.sync.push(self.step)
        tokens = sum(len(d.choice.token_ids) for t in trajectories for d in t.decisions)
        self.generated_tokens += tokens
        metrics |= {
            "tokens": self.generated_tokens,
            "time/step": time.monotonic() - started,
            "time/generate": generated - started,
            "time/update": updated - generated,
            "time/tokens_per_second": tokens / (generated - started),
        }
        if self.config.eval_every and self.step % self.config.eval_every == 0 and self.step < self.total_steps:
            metrics |= (await self._evaluation()).metrics()
        self._tracker.log(self.step, metrics)
        self._show_sample(trajectories)
        if self.config.save_every and (self._is_best(metrics) or self.step % self.config.save_every == 0):
            self._save()

    def _describe(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """Figures of the collected episodes."""
        names = {"correct": "accuracy", "no_answer": "frac_no_answer"}
        decisions = [d for t in trajectories for d in t.decisions]
        metrics = {
            "reward": float(np.mean([sum(d.reward for d in t.decisions) for t in trajectories])),
            "episode_length": len(decisions) / len(trajectories),
            "response_length": float(np.mean([len(d.choice.token_ids) for d in decisions])),
            "frac_truncated": float(np.mean([d.choice.finish_reason == "length" for d in decisions])),
        }
        for source, name in names.items():
            values = [t.metrics[source] for t in trajectories if source in t.metrics]
            if values:
                metrics[name] = float(np.mean(values))
        return metrics

    def _show_sample(self, trajectories: Sequence[Trajectory]) -> None:
        every = self.config.samples_every
        if every and self.step % every == 0:
            decision = trajectories[0].decisions[-1]
            prompt = decision.observation[-1]["content"]
            self._tracker.sample(self.step, f"{prompt}\n{decision.choice.text}\nreward {decision.reward:+.2f}")

    # --- evaluation

    async def _evaluate(self) -> None:
        """Sampled and greedy evaluation, before and after training."""
        if self.config.eval_every:
            sampled = await self._evaluation()
            greedily = await self._evaluation(greedily=True)
            self._tracker.evaluation(self.step, {**sampled.metrics(), "eval/greedy_accuracy": greedily.accuracy})

    async def _evaluation(self, *, greedily: bool = False) -> EvaluationResult:
        run, config = self.run, self.config
        sampling = greedy(run.policy.sampling) if greedily else replace(run.policy.sampling, top_p=1.0, top_k=0)
        with _naming_phase("evaluating", config):
            result, _ = await evaluate_policy(
                run.environment,
                run.policy,
                first_tasks(run.test_tasks, config.eval_tasks),
                samples=1 if greedily else config.eval_samples,
                seed=config.seed,
                sampling=sampling,
            )
        return result

    # --- checkpoints

    def _is_best(self, metrics: Mapping[str, float]) -> bool:
        """Whether this step has the best held-out accuracy so far; if so it is remembered."""
        accuracy = metrics.get("eval/accuracy")
        if accuracy is None or (self.best is not None and accuracy <= self.best[0]):
            return False
        self.best = (accuracy, self.step)
        return True

    def _save(self) -> None:
        """Write a checkpoint of the present step, unless it has one."""
        if self._saved == self.step:
            return
        optimizer_tensors, optimizer_state = checkpoint.flatten_optimizer(self.learner.optimizer.state_dict())
        folder = self.folder / CHECKPOINTS
        checkpoint.save(
            folder,
            self.step,
            {"policy": self.run.policy.state_tensors(), "optimizer": optimizer_tensors},
            {
                "step": self.step,
                "generated_tokens": self.generated_tokens,
                "best": self.best,
                "optimizer": optimizer_state,
            },
        )
        self._saved = self.step
        checkpoint.prune(folder, self.config.keep_last, {self.best[1]} if self.best else set())

    def _save_final(self) -> None:
        """Write the trained model, or adapter, under its final name once it is whole."""
        partial, final = self.folder / f"{FINAL}.partial", self.folder / FINAL
        try:
            self.run.policy.save_pretrained(partial)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        except (OSError, SafetensorError) as error:
            raise ReasonEnvsError(
                f"{final} could not be written: {error}. The checkpoint of step {self.step} is good: free disk space, "
                f"then resume={self.folder}."
            ) from error

    def _restore(self) -> None:
        tensors, state = checkpoint.load(checkpoint.latest(self.folder / CHECKPOINTS))
        self.run.policy.load_state_tensors(tensors["policy"])
        self.learner.optimizer.load_state_dict(checkpoint.unflatten_optimizer(tensors["optimizer"], state["optimizer"]))
        self.step = self._saved = state["step"]
        self.generated_tokens = state["generated_tokens"]
        self.best = tuple(state["best"]) if state["best"] else None
        self._tracker.resume(self.step)

    # --- beginning and ending

    def _announce(self) -> None:
        """Say what is about to be trained on what."""
        config, run = self.config, self.run
        parameters = sum(p.numel() for p in run.policy.parameters())
        self._tracker.note(
            f"{config.algo.name} trains {parameters:,} parameters of model {config.policy.model!r} on "
            f"{len(run.train_tasks):,} problems of {run.train_tasks.name}, {self.total_steps:,} steps; held out: "
            f"{len(run.test_tasks):,} problems of {run.test_tasks.name}. Everything goes to {self.folder}"
        )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run after the present step; a second one ends it at once."""
        previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, _: FrameType | None) -> None:
            self._stop_signal = number
            signal.signal(number, signal.SIG_DFL)
            # Not through the tracker: it may be in the middle of printing.
            os.write(2, f"\n{signal.Signals(number).name}: saving after this step (again: stop at once).\n".encode())

        for number in previous:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _total_steps(config: TrainConfig, tasks: int, tasks_per_step: int) -> int:
    """Whichever of ``steps`` and ``epochs`` ends first."""
    caps = [] if config.steps is None else [config.steps]
    if config.epochs is not None:
        caps.append(math.ceil(config.epochs * tasks / tasks_per_step))
    return min(caps)


@contextmanager
def _naming_phase(phase: str, config: TrainConfig) -> Iterator[None]:
    """Turn CUDA's out-of-memory error into one message with the phase, the sizes and what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ReasonEnvsError(
            f"Out of GPU memory while {phase} (policy.model={config.policy.model}, policy.max_tokens="
            f"{config.policy.max_tokens}, algo.micro_batch_tokens={getattr(config.algo, 'micro_batch_tokens', None)}, "
            f"engine.max_batch_size={getattr(config.engine, 'max_batch_size', None)}). Lower these, set "
            "policy.gradient_checkpointing=true or policy.lora_rank=16, or use a smaller model. "
            f"PyTorch says: {str(error).splitlines()[0]}"
        ) from error
