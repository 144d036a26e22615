"""The training loop: collect, update, push the weights, evaluate, log, save."""

import asyncio
import signal
from dataclasses import replace

from agents.algorithms.learner import Learner
from agents.config.schema import options
from agents.registry import ALGORITHMS
from agents.rollout.episodes import without_failures
from agents.tracking.episode_metrics import describe
from agents.tracking.transcript import as_text
from agents.training.build import Run, announcement
from agents.training.evaluator import Evaluator
from agents.training.folder import open_folder
from agents.training.health import due_warnings
from agents.training.interrupts import StopRequest
from agents.training.phases import GENERATING, SENDING, UPDATING, StepClock, explain_out_of_memory
from agents.training.pipeline import Pipeline
from agents.training.prompt_limits import check_prompts
from agents.training.resolve import total_steps
from agents.training.saving import Progress, Saver, export
from agents.training.weight_sync import PolicySync
from agents.trajectory import Trajectory
from reason_envs.errors import reading
from reason_envs.llm.weights import return_free_memory

POLL_SECONDS = 0.5
"""Seconds between two checks for a signal while episodes are played."""
SAMPLE_EVERY = 20
"""Training steps between two responses that the console and ``train.log`` show."""


class Trainer:
    """Trains a run from its first step to its last; with ``resuming``, from its folder's latest checkpoint.

    ``command`` is the command line that started the training, for the model card; ``None`` if there is none.
    """

    def __init__(self, run: Run, *, resuming: bool = False, command: str | None = None) -> None:
        self.run = run
        self.config = run.plan.config
        self.progress = Progress()
        self._resuming = resuming
        self._command = command
        self.stop = StopRequest(self.config.max_minutes)

    async def train(self) -> int | None:
        """Train to the end, or until a signal or ``max_minutes`` stops the run; return the signal or ``None``."""
        await self.prepare()
        with self.tracker, self.stop:
            self.tracker.note(announcement(self.run, self.total_steps))
            await self._begin()
            while self.progress.step < self.total_steps and not self.stop.due():
                with self.saver.keeping_progress(self.progress, self.tracker):
                    await self.train_step()
            await self.pipeline.close()
            self.saver.save(self.progress)
            await self._end()
        return self.stop.received()

    async def prepare(self) -> None:
        """Check the prompts, build the learner and open the run folder. Mistakes are found before the first step."""
        run, config = self.run, self.config
        run = replace(run, train_tasks=await check_prompts(run.policy, run.environment, run.train_tasks))
        if run.test_tasks is not None:
            run = replace(run, test_tasks=await check_prompts(run.policy, run.environment, run.test_tasks))
        self.run = run
        self.total_steps = total_steps(config, len(run.train_tasks))
        with explain_out_of_memory("copying the reference", config):
            given = {"total_steps": self.total_steps, "seed": config.seed, **options(config.algo)}
            parts = (run.policy, run.environment, run.train_tasks)
            self.learner: Learner = ALGORITHMS.make(config.algo.name, *parts, **given)
        self.sync = PolicySync(run.policy)
        self.saver = Saver(run.plan, run.policy, self.learner.optimizer)
        self.pipeline = Pipeline(self.learner, run.policy, self.saver, config.pipeline.steps_ahead, self.total_steps)
        self.tracker = open_folder(run.plan, self.total_steps, resuming=self._resuming, command=self._command)
        self.evaluator = Evaluator(run, self.tracker)

    async def train_step(self) -> None:
        """Run one training step."""
        step = self.progress.step
        clock, reread = StepClock(self.config, step), self.run.reread_tokens
        with clock.phase(GENERATING):
            collected = await self._collect(step)
        if collected is None:
            return
        played, seconds = collected
        trajectories = without_failures(played)
        metrics, sample = describe(trajectories), as_text(trajectories[0])
        with clock.phase(UPDATING):
            metrics |= await self.pipeline.update(trajectories, step)
        tokens = sum(t.generated_tokens for t in played)
        self.progress.advance(tokens, metrics, sample, self.sync.watched(trajectories))
        with clock.phase(SENDING):
            gaps = await self._push()
        gaps["time/reread_tokens"] = self.run.reread_tokens - reread
        await self._log({**gaps, **clock.metrics(tokens, seconds)})

    async def _collect(self, step: int) -> tuple[list[Trajectory], float] | None:
        """Collect episodes, with their seconds.

        ``None`` if a signal ended them between two decisions. Single decisions are completed.
        """
        playing = self.pipeline.episodes(step)
        while not (await asyncio.wait([playing], timeout=POLL_SECONDS))[0]:
            if self.stop.pending() and self.run.environment.decisions_per_episode != 1:
                playing.cancel()
                await asyncio.wait([playing])
                return None
        return playing.result()

    async def _push(self) -> dict[str, float]:
        """Send the weights of a step that is not logged yet to the engine, and compare it on the step's responses."""
        self.sync.watch(self.progress.watched())
        return await self.sync.push(self.progress.step)

    async def _log(self, metrics: dict[str, float]) -> None:
        """Evaluate if it is due, then log the latest step and save it if that is due."""
        step, unlogged = self.progress.step, self.progress.unlogged
        assert unlogged is not None
        metrics = {**unlogged["metrics"], "tokens": self.progress.generated_tokens, **metrics}
        metrics |= await self.evaluator.if_due(step, self.total_steps)
        self.tracker.log(step, metrics)
        self.progress.unlogged = None
        for warning in due_warnings(metrics, self.config, self.progress.warnings):
            self.tracker.note(warning)
        if (step - 1) % SAMPLE_EVERY == 0:
            self.tracker.sample(step, unlogged["sample"])
        self.saver.save_if_due(self.progress, metrics)

    async def _begin(self) -> None:
        """Verify the weight synchronisation, then restore the latest checkpoint or evaluate the first weights."""
        with explain_out_of_memory(SENDING, self.config):
            await self.sync.canary()
            if self._resuming:
                self.progress = self.saver.restore()
                with reading(self.run.plan.folder, "Restore or delete what is damaged there."):
                    self.tracker.resume(self.progress.step, is_logged=self.progress.unlogged is None)
                self.tracker.note(f"Continues after step {self.progress.step}.")
                await self._replay()
                if self.progress.unlogged is None:
                    await self.sync.push(self.progress.step)
                else:  # the step failed after its update
                    await self._log(await self._push())
        if self.progress.step == 0:
            self.saver.save(self.progress)
            await self.evaluator.sampled_and_greedy(self.progress.step)
        return_free_memory()  # loading and the canary have freed copies of the weights

    async def _replay(self) -> None:
        """Play the episodes of the next step again if the run had sampled them with earlier weights."""
        if self.saver.sampler and self.progress.step < self.total_steps:
            present = {name: tensor.clone() for name, tensor in self.run.policy.state_tensors().items()}
            self.run.policy.load_state_tensors(self.saver.sampler)
            self.sync.send(self.progress.step - 1)
            await self.pipeline.replay(self.progress.step)
            self.run.policy.load_state_tensors(present)

    async def _end(self) -> None:
        """Evaluate and export the policy, unless a signal ended the run."""
        step, stopped_by = self.progress.step, self.stop.received()
        if stopped_by is not None:
            self.tracker.note(f"Stopped by {signal.Signals(stopped_by).name}; step {step} is saved.")
            return
        await self.evaluator.sampled_and_greedy(step)
        address = export(self.run.plan, self.run.policy, step)
        if address is not None:
            self.tracker.note(f"The policy is at {address}")
