"""Check that environments which step together ask their models together."""

from __future__ import annotations

import gc

from reason_envs.batching import MicroBatcher
from reason_envs.check.play import Subject
from reason_envs.check.results import CheckFailure, NotApplicable
from reason_envs.vector import VectorEpisodes

TOGETHER = 4
"""Environments that step together."""


def batching(subject: Subject) -> str:
    """Count the calls of every batcher while one environment plays, then several that do the same."""
    alone, _ = _calls(subject, 1)
    if not alone:
        raise NotApplicable(
            "no call went through a MicroBatcher; an environment that asks a model awaits an engine "
            "(reason_envs.llm.make_engine), a reward model, or a MicroBatcher of its own"
        )
    together, requests = _calls(subject, TOGETHER)
    if together > alone:
        raise CheckFailure(f"One environment makes {alone} calls; {TOGETHER} in step with each other make {together}.")
    return f"{TOGETHER} environments made {together} calls ({requests} requests), one alone {alone}"


def _calls(subject: Subject, count: int) -> tuple[int, int]:
    """Let so many environments play the same episode in step; return the calls and requests of all batchers."""
    episodes = VectorEpisodes.of(subject.build(), count)
    # Held, so that none of them dies meanwhile.
    before = {batcher: (batcher.calls, batcher.requests) for batcher in _batchers()}
    subject.run(_play(subject, episodes))
    calls = requests = 0
    for batcher in _batchers():
        earlier_calls, earlier_requests = before.get(batcher, (0, 0))
        calls += batcher.calls - earlier_calls
        requests += batcher.requests - earlier_requests
    return calls, requests


async def _play(subject: Subject, episodes: VectorEpisodes) -> None:
    results = await episodes.reset(seeds=dict.fromkeys(range(len(episodes)), subject.seed))
    for turn in range(subject.max_steps):
        if not episodes.live:
            break
        moves = {slot: subject.actions(episodes.environments[slot], results[slot], turn) for slot in episodes.live}
        results = await episodes.step(moves)


def _batchers() -> list[MicroBatcher]:
    # All there are: an environment may hold its engine anywhere, and must not have one of its own.
    return [thing for thing in gc.get_objects() if type(thing) is MicroBatcher]
