"""The evaluations of a run: held-out problems at the training temperature, and greedily before and after training."""

from dataclasses import replace

from agents.evaluation.evaluate_policy import EvaluationResult, evaluate_policy
from agents.evaluation.intervals import first_tasks
from agents.tracking.episode_records import evaluation_record
from agents.tracking.tracker import NullTracker, Tracker
from agents.tracking.transcript import as_text
from agents.training.build import Run
from agents.training.phases import explain_out_of_memory
from reason_envs.llm.engine import greedy

SHOWN_EPISODES = 3
"""Held-out episodes of an evaluation that dashboards show as text."""


class Evaluator:
    """Evaluates the policy of a run on its held-out problems. Without held-out problems it does nothing."""

    def __init__(self, run: Run, tracker: Tracker | NullTracker) -> None:
        self._run = run
        self._config = run.plan.config
        self._tracker = tracker

    async def sampled_and_greedy(self, step: int) -> None:
        """Evaluate with sampling and greedily, and record both: before the first and after the last step."""
        if self._run.test_tasks is not None:
            metrics = (await self._evaluate(step)).metrics()
            greedily = await self._evaluate(step, greedily=True)
            self._tracker.evaluation(step, {**metrics, "eval/greedy_accuracy": greedily.accuracy})

    async def if_due(self, step: int, total_steps: int) -> dict[str, float]:
        """Evaluate after a training step if one is due; return metrics, which are empty otherwise."""
        every = self._config.eval_every
        if self._run.test_tasks is None or not every or step % every or step >= total_steps:
            return {}
        return (await self._evaluate(step)).metrics()

    async def _evaluate(self, step: int, *, greedily: bool = False) -> EvaluationResult:
        run, config = self._run, self._config
        assert run.test_tasks is not None
        tasks, samples = first_tasks(run.test_tasks, config.eval_tasks), 1 if greedily else config.eval_samples
        sampling = greedy(run.policy.sampling) if greedily else replace(run.policy.sampling, top_p=1.0, top_k=0)
        self._tracker.status(f"evaluating {len(tasks) * samples:,} held-out episodes{', greedy' * greedily}")
        with explain_out_of_memory("evaluating", config):
            result, trajectories = await evaluate_policy(
                run.environment, run.policy, tasks, samples=samples, seed=config.seed, sampling=sampling
            )
        self._tracker.status("")
        if not greedily:
            kept = evaluation_record(step, trajectories, tasks, samples, config.eval_episodes)
            self._tracker.episodes(kept, [as_text(t) for t in trajectories[::samples][:SHOWN_EPISODES]])
        return result
