"""Check that environments that are stepped together call their models together."""

import gc

from reason_envs.batching import MicroBatcher
from reason_envs.check.play import Subject
from reason_envs.check.results import CheckFailure, NotApplicable
from reason_envs.vector import VectorEpisodes

TOGETHER = 4
"""Number of environments that are stepped together."""


def batching(subject: Subject) -> str:
    """Count the calls of all batchers while one environment plays, and while several play the same episode."""
    alone, _ = _calls(subject, 1)
    if not alone:
        raise NotApplicable(
            "no call used a MicroBatcher. An environment with a model should await an engine "
            "(reason_envs.llm.make_engine), a reward model, or its own MicroBatcher"
        )
    together, requests = _calls(subject, TOGETHER)
    if together > alone:
        raise CheckFailure(
            f"One environment makes {alone} calls; {TOGETHER} environments, stepped together, make {together}."
        )
    return f"{TOGETHER} environments make {together} calls ({requests} requests); one alone makes {alone}"


def _calls(subject: Subject, count: int) -> tuple[int, int]:
    """Let ``count`` environments play the same episode together. Returns the calls and requests of all batchers."""
    episodes = VectorEpisodes.of(subject.build(), count)
    # The references keep all batchers alive in the meantime.
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
    # All of them: an environment may hold its engine anywhere, and must not have a separate one.
    return [thing for thing in gc.get_objects() if type(thing) is MicroBatcher]
