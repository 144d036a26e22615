"""The episodes of the training steps: played when a step needs them, or during the update of the step before."""

import asyncio
import time
from collections.abc import Sequence

from agents.algorithms.learner import Learner
from agents.policies.base import TrainablePolicy
from agents.training.saving import Saver
from agents.trajectory import Trajectory


class Pipeline:
    """Plays the episodes of each training step and updates the policy on them.

    With ``steps_ahead=1``, the episodes of the next step are played during the update, with the weights before it. They
    are complete before the weights change, so a run depends on its seed only. The saver gets these weights, since a
    resumed run plays the episodes again.
    """

    def __init__(
        self, learner: Learner, policy: TrainablePolicy, saver: Saver, steps_ahead: int, total_steps: int
    ) -> None:
        self._learner = learner
        self._policy = policy
        self._saver = saver
        self._ahead = steps_ahead > 0
        self._total_steps = total_steps
        self._playing: asyncio.Future[tuple[list[Trajectory], float]] | None = None

    def episodes(self, step: int) -> asyncio.Future[tuple[list[Trajectory], float]]:
        """Return the episodes of a step, which may be complete already, and the seconds that playing them took."""
        playing, self._playing = self._playing, None
        return playing or asyncio.ensure_future(self._timed(step))

    async def _timed(self, step: int) -> tuple[list[Trajectory], float]:
        started = time.monotonic()
        return await self._learner.collect(step), time.monotonic() - started

    async def update(self, trajectories: Sequence[Trajectory], step: int) -> dict[str, float]:
        """Update the policy on the episodes of a step; return the metrics.

        With ``steps_ahead=1``, ``staleness`` is the mean number of updates between the weights that sampled a decision
        and those that are updated on it.
        """
        if not self._ahead:
            return self._learner.update(trajectories, step)
        sampler = {name: tensor.clone() for name, tensor in self._policy.state_tensors().items()}
        updating = asyncio.ensure_future(asyncio.to_thread(self._learner.update, trajectories, step))
        if step + 1 < self._total_steps:
            self._playing = self.episodes(step + 1)
        try:
            metrics = await asyncio.shield(updating)
            await asyncio.wait([self._playing or updating])
        except BaseException:
            await asyncio.wait([updating])  # a thread cannot be cancelled
            await self.close()
            raise
        self._saver.sampler = sampler
        versions = [decision.choice.policy_version for each in trajectories for decision in each.decisions]
        return {**metrics, "staleness": step - sum(versions) / max(1, len(versions))}

    async def close(self) -> None:
        """Cancel the episodes that are played ahead."""
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
            self._playing = None

    async def replay(self, step: int) -> None:
        """Play the episodes of a step again with the weights that the engine holds. They are the next step's."""
        self._playing = self.episodes(step)
        await asyncio.wait([self._playing])
