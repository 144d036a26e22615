"""Checks of several copies of an environment: forks, and environments that call their models together."""

from reason_envs.batching import BATCHERS, gather
from reason_envs.check.play import Subject, compare
from reason_envs.check.results import CheckFailure, NotApplicable
from reason_envs.core import Environment, StepResult, checked_reset
from reason_envs.vector import VectorEpisodes

OTHER = "the other way"
"""Salt that selects other actions for the fork or original that must not affect the other."""
TOGETHER = 4
"""Number of environments that are stepped together."""


def isolation(subject: Subject) -> str:
    """Fork in the middle of an episode and let fork and original take different actions."""
    subject, expected = max(((each, each.play(each.build())) for each in subject.examples), key=lambda one: len(one[1]))
    for steps in sorted({0, (len(expected) - 1) // 2}):
        for quiet in ("original", "fork"):
            played = subject.run(_part(subject, subject.build(), steps, quiet))
            found = compare(expected[steps + 1 :], played, first=steps + 1)
            if found is not None:
                noisy = "fork" if quiet == "original" else "original"
                raise CheckFailure(
                    f"After a fork at step {steps} other actions of the {noisy} changed the {quiet} at {found}."
                )
        original, fork = subject.run(_side_by_side(subject, subject.build(), steps))
        found = compare(original, fork, first=steps + 1)
        if found is not None:
            raise CheckFailure(f"Fork and original with the same actions, played together, differ at {found}.")
    return f"forks of {len(expected) - 1}-step episodes continue like the original and are independent of it"


def rekeying(subject: Subject) -> str:
    """Check that forks with seeds get other random draws."""
    environment = subject.build()
    begun = subject.run(checked_reset(environment, seed=subject.seed))
    forks = [environment.fork(seed=1), environment.fork(seed=1), environment.fork(seed=2)]
    seeds = [getattr(fork.state, "seed", None) for fork in forks]
    own = getattr(environment.state, "seed", None)
    if own is None or None in seeds:
        raise CheckFailure(
            "The state has no field `seed`, which fork(seed=) changes.",
            "Keep the episode's seed in self.state.seed, and derive every draw from it.",
        )
    if own in seeds or seeds[0] != seeds[1] or seeds[1] == seeds[2]:
        raise CheckFailure(
            f"The seed of the original is {own}, and forks with seed=1, 1 and 2 have {seeds}.",
            "If you override fork, call super().fork(seed).",
        )
    one, same = (subject.run(subject.go_on(fork, begun)) for fork in forks[:2])
    found = compare(one, same, first=1)
    # `isolation` finds effects of forks on each other.
    if found is not None and compare(_rekeyed(subject), _rekeyed(subject), first=1) is not None:
        raise CheckFailure(f"Two forks with seed=1 and the same actions differ at {found}.")
    return "fork(seed=) changes the random draws, and equal seeds give equal draws"


def _rekeyed(subject: Subject) -> list[StepResult]:
    """Play the only fork of an environment."""
    environment = subject.build()
    begun = subject.run(checked_reset(environment, seed=subject.seed))
    return subject.run(subject.go_on(environment.fork(seed=1), begun))


async def _part(subject: Subject, environment: Environment, steps: int, quiet: str) -> list[StepResult]:
    """Play and fork. Let one take other actions to its end, and return the results of the ``quiet`` one."""
    *_, last = await subject.episode(environment, steps)
    fork = environment.fork()
    noisy, watched = (fork, environment) if quiet == "original" else (environment, fork)
    await subject.go_on(noisy, last, OTHER, first=steps)
    return await subject.go_on(watched, last, first=steps)


async def _side_by_side(subject: Subject, environment: Environment, steps: int) -> list[list[StepResult]]:
    *_, last = await subject.episode(environment, steps)
    return await gather(*(subject.go_on(one, last, first=steps) for one in (environment, environment.fork())))


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
    # All of the process: an environment may hold its engine anywhere, and must not have a separate one.
    earlier = list(BATCHERS)  # the references keep them alive in the meantime
    calls, requests = sum(batcher.calls for batcher in earlier), sum(batcher.requests for batcher in earlier)
    subject.run(_play(subject, episodes))
    later = list(BATCHERS)
    return sum(batcher.calls for batcher in later) - calls, sum(batcher.requests for batcher in later) - requests


async def _play(subject: Subject, episodes: VectorEpisodes) -> None:
    results = await episodes.reset(seeds=dict.fromkeys(range(len(episodes)), subject.seed))
    for turn in range(subject.max_steps):
        if not episodes.live:
            break
        moves = {slot: subject.actions(episodes.environments[slot], results[slot], turn) for slot in episodes.live}
        results = await episodes.step(moves)
