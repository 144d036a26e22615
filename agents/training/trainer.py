"""The loop of a run: collect, update, synchronise, evaluate, save; interrupted and resumed without a trace."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents import distributed
from agents.algorithms.learner import Learner
from agents.config.schema import TrainConfig, options
from agents.evaluation.evaluate_policy import EvaluationResult, evaluate_policy
from agents.evaluation.intervals import first_tasks
from agents.registry import ALGORITHMS
from agents.tracking import hub
from agents.tracking.episode_metrics import describe
from agents.tracking.episode_records import evaluation_record
from agents.tracking.model_card import COMMAND
from agents.tracking.tracker import NullTracker, Tracker
from agents.tracking.transcript import as_text
from agents.training import checkpoint
from agents.training.build import Run, build, weight_syncs
from agents.training.checkpoint import CheckpointError
from agents.training.folder import CHECKPOINTS, CONFIG_FILE, write_config
from agents.training.interrupts import StopRequest, naming_phase
from agents.training.prompt_limits import check_prompts
from agents.training.saving import FINAL, Progress, Saver, taken
from agents.training.weight_sync import RoleSync
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import greedy

SHOWN_EPISODES = 3
"""Held-out episodes of an evaluation that trackers show as text."""


class Trainer:
    """Runs a configuration from its first step, or from a run folder's latest checkpoint, to its last.

    Args:
        config: the run's configuration.
        resuming: whether ``config.output_dir`` holds the run to continue.
        command: what was typed to train, for the model card; ``None`` where nothing was.
    """

    def __init__(self, config: TrainConfig, *, resuming: bool = False, command: str | None = None) -> None:
        self.config = config
        self.folder = Path(distributed.everyone(config.output_dir)[0])
        self._resuming = resuming
        self._command = command
        self._check_folder()
        if config.push_to_hub and distributed.rank() == 0:
            hub.create_repository(config.push_to_hub, private=config.hub_private)
        with naming_phase("loading the model", config):
            self.run: Run = build(config, self.folder)
        self.progress = Progress()
        self._stop = StopRequest()

    async def train(self) -> int | None:
        """Train to the end, or until a signal or ``max_minutes`` stops the run after a step.

        Returns:
            The signal that ended the run early, or ``None``.
        """
        await self._prepare()
        with self._tracker, self._stop:
            self._announce()
            if self.sync is not None:
                with naming_phase("sending weights to the engine", self.config):
                    await self.sync.canary()
            if self._resuming:
                self.progress = self._saver.restore()
                self._tracker.resume(self.progress.step)
                self._tracker.note(f"Continues after step {self.progress.step}.")
                await self._push()
            if self.progress.step == 0:
                self._saver.save(self.progress)
                await self._evaluate()
            stopped_by = await self._steps()
            if stopped_by is None:
                await self._evaluate()
                self._saver.save_final(self.progress)
                if self.config.push_to_hub and distributed.rank() == 0:
                    address = hub.push(self.config.push_to_hub, self.folder / FINAL, self.progress.step)
                    self._tracker.note(f"The policy is at {address}")
                stopped_by = self._stopped_by()
            else:
                name = signal.Signals(stopped_by).name
                self._tracker.note(f"Stopped by {name}; step {self.progress.step} is saved.")
        return stopped_by

    async def _steps(self) -> int | None:
        """Train step by step; a checkpoint of the last whole step is written even if an error ends the loop."""
        started = time.monotonic()
        limit = math.inf if self.config.max_minutes is None else 60 * self.config.max_minutes
        stopped_by = self._stopped_by()
        while self.progress.step < self.total_steps and stopped_by is None:
            if distributed.any_of(time.monotonic() - started >= limit):
                break
            updates = self.learner.optimizer.steps
            try:
                await self._train_step()
            except CheckpointError:
                raise
            except ReasonEnvsError:
                if self.learner.optimizer.steps == updates:
                    self._saver.save(self.progress)
                raise
            stopped_by = self._stopped_by()
        self._saver.save(self.progress)
        return stopped_by

    def _stopped_by(self) -> int | None:
        """The signal that any process of the run received."""
        return next((number for number in distributed.everyone(self._stop.number) if number is not None), None)

    async def _prepare(self) -> None:
        """Check the prompts, then build the learner: everything that can be wrong is found before the first step."""
        config, run = self.config, self.run
        run.train_tasks = await check_prompts(run.policy, run.environment, run.train_tasks)
        if run.test_tasks is not None:
            run.test_tasks = await check_prompts(run.policy, run.environment, run.test_tasks)
        algorithm = ALGORITHMS[config.algo.name]
        algo_config = algorithm.config_class()(**options(config.algo))
        self.total_steps = _total_steps(config, len(run.train_tasks), algo_config)
        with naming_phase("copying the reference", config):
            self.learner: Learner = algorithm.load()(
                algo_config,
                run.policy,
                run.environment,
                run.train_tasks,
                total_steps=self.total_steps,
                seed=config.seed,
            )
        self.sync = self._weight_sync()
        self._saver = Saver(self.folder, run.policy, self.learner.optimizer, config.keep_last)
        self._tracker: Tracker | NullTracker = NullTracker()
        if distributed.rank() == 0:
            # Only now: a folder is not taken by a run that could not begin.
            self.folder.mkdir(parents=True, exist_ok=True)
            write_config(self.folder, config)
            try:
                self._tracker = Tracker(self.folder, self.total_steps, wandb=config.wandb, log_every=config.log_every)
            except ReasonEnvsError:
                if not self._resuming:
                    (self.folder / CONFIG_FILE).unlink()
                raise
            if self._command is not None:
                with (self.folder / COMMAND).open("a", encoding="utf-8") as file:
                    file.write(f"{self._command}\n")

    # --- one step

    async def _train_step(self) -> None:
        started = time.monotonic()
        step, config = self.progress.step, self.config
        with naming_phase("generating", config):
            trajectories = await self.learner.collect(step)
        generated = time.monotonic()
        metrics = describe(trajectories)
        shown = as_text(trajectories[0])
        with naming_phase("updating", config):
            metrics |= self.learner.update(trajectories, step)
        updated = time.monotonic()
        self.progress.step = step = step + 1
        metrics |= await self._push()
        tokens = sum(t.generated_tokens for t in trajectories)
        self.progress.generated_tokens += tokens
        metrics |= {
            "tokens": self.progress.generated_tokens,
            "time/step": time.monotonic() - started,
            "time/generate": generated - started,
            "time/update": updated - generated,
            "time/tokens_per_second": tokens / (generated - started),
        }
        if config.eval_every and step % config.eval_every == 0 and step < self.total_steps:
            metrics |= (await self._evaluation()).metrics()
        self._tracker.log(step, metrics)
        if config.samples_every and step % config.samples_every == 0:
            self._tracker.sample(step, shown)
        if config.save_every and (self.progress.is_best(metrics) or step % config.save_every == 0):
            self._saver.save(self.progress)

    def _weight_sync(self) -> RoleSync | None:
        """What sends the weights to the engines that sample; ``None`` for a policy that samples itself."""
        syncs = weight_syncs(self.run.policy)
        return RoleSync(syncs) if syncs else None

    async def _push(self) -> dict[str, float]:
        """Let the weights of the present step act; return metrics."""
        self.run.policy.version = self.progress.step
        if self.sync is None:
            return {}
        with naming_phase("sending weights to the engine", self.config):
            return {"sync_gap": await self.sync.push(self.progress.step)}

    # --- evaluation

    async def _evaluate(self) -> None:
        """Sampled and greedy evaluation, before and after training."""
        if self.config.eval_every:
            sampled = await self._evaluation()
            greedily = await self._evaluation(greedily=True)
            metrics = {**sampled.metrics(), "eval/greedy_accuracy": greedily.accuracy}
            self._tracker.evaluation(self.progress.step, metrics)

    async def _evaluation(self, *, greedily: bool = False) -> EvaluationResult:
        run, config = self.run, self.config
        assert run.test_tasks is not None
        tasks, samples = first_tasks(run.test_tasks, config.eval_tasks), 1 if greedily else config.eval_samples
        sampling = greedy(run.policy.sampling) if greedily else replace(run.policy.sampling, top_p=1.0, top_k=0)
        self._tracker.status(f"evaluating {len(tasks) * samples:,} held-out episodes{', greedy' * greedily}")
        with naming_phase("evaluating", config):
            result, trajectories = await evaluate_policy(
                run.environment, run.policy, tasks, samples=samples, seed=config.seed, sampling=sampling
            )
        self._tracker.status("")
        if not greedily:
            kept = evaluation_record(self.progress.step, trajectories, tasks, samples, config.eval_episodes)
            self._tracker.episodes(kept, [as_text(t) for t in trajectories[::samples][:SHOWN_EPISODES]])
        return result

    # --- beginning

    def _check_folder(self) -> None:
        """Refuse, before the model is loaded, a folder that holds a run, or one to resume that holds none."""
        if self._resuming:
            checkpoint.latest(self.folder / CHECKPOINTS)
        elif distributed.rank() == 0 and (self.folder / CONFIG_FILE).exists():
            raise taken(self.folder)

    def _announce(self) -> None:
        """Say what is about to be trained on what."""
        config, run = self.config, self.run
        parameters = sum(p.numel() for p in run.policy.parameters())
        held_out = f"; held out: {len(run.test_tasks):,} problems of {run.test_tasks.name}" if run.test_tasks else ""
        processes = f" in {distributed.size()} processes" if distributed.size() > 1 else ""
        self._tracker.note(
            f"{config.algo.name} trains {parameters:,} parameters of {_what(config.policy)} on "
            f"{len(run.train_tasks):,} problems of {run.train_tasks.name}, {self.total_steps:,} steps{processes}"
            f"{held_out}. Everything goes to {self.folder}"
        )


def _what(policy: Any) -> str:
    """Name what is trained: a policy's model, where it has one."""
    return f"model {policy.model!r}" if hasattr(policy, "model") else f"a {policy.name} policy"


def _total_steps(config: TrainConfig, tasks: int, algo: Any) -> int:
    """Whichever of ``steps`` and ``epochs`` ends first."""
    caps = [] if config.steps is None else [config.steps]
    if config.epochs is not None:
        caps.append(math.ceil(config.epochs * tasks / algo.tasks_per_step))
    return min(caps)
