"""Checks of forks: they go on as the original would, and nobody hears of the other."""

from __future__ import annotations

from reason_envs.batching import gather
from reason_envs.check.play import Subject, compare
from reason_envs.check.results import CheckFailure
from reason_envs.core import Environment, StepResult, checked_reset

OTHER = "the other way"
"""Salt of the actions of whoever must not be heard."""


def isolation(subject: Subject) -> str:
    """Fork in the middle of an episode, and let fork and original go different ways."""
    subject, expected = max(((each, each.play(each.build())) for each in subject.examples), key=lambda one: len(one[1]))
    for steps in sorted({0, (len(expected) - 1) // 2}):
        for quiet in ("original", "fork"):
            played = subject.run(_part(subject, subject.build(), steps, quiet))
            found = compare(expected[steps + 1 :], played, first=steps + 1)
            if found is not None:
                noisy = "fork" if quiet == "original" else "original"
                raise CheckFailure(
                    f"After a fork at step {steps} the {noisy} went another way, and the {quiet} no longer does what "
                    f"it did without, at {found}."
                )
        original, fork = subject.run(_side_by_side(subject, subject.build(), steps))
        found = compare(original, fork, first=steps + 1)
        if found is not None:
            raise CheckFailure(f"Fork and original, with the same actions, side by side, differ at {found}.")
    return f"forks of {len(expected) - 1}-step episodes replay them, whatever the other does"


def rekeying(subject: Subject) -> str:
    """Give forks other random draws."""
    environment = subject.build()
    begun = subject.run(checked_reset(environment, seed=subject.seed))
    forks = [environment.fork(seed=1), environment.fork(seed=1), environment.fork(seed=2)]
    seeds = [getattr(fork.state, "seed", None) for fork in forks]
    own = getattr(environment.state, "seed", None)
    if own is None or None in seeds:
        raise CheckFailure(
            "The state has no `seed`, which fork(seed=) would change.",
            "Keep the episode's seed in self.state.seed, and derive every draw from it.",
        )
    if own in seeds or seeds[0] != seeds[1] or seeds[1] == seeds[2]:
        raise CheckFailure(
            f"The original's seed is {own}; forks with seed=1, 1 and 2 have {seeds}.",
            "Call super().fork(seed) where fork is overridden.",
        )
    one, same = (subject.run(subject.go_on(fork, begun)) for fork in forks[:2])
    found = compare(one, same, first=1)
    # What only forks of one environment do to each other is for `isolation` to find.
    if found is not None and compare(_rekeyed(subject), _rekeyed(subject), first=1) is not None:
        raise CheckFailure(f"Two forks with seed=1 and the same actions differ at {found}.")
    return "fork(seed=) draws anew, and the same for the same seed"


def _rekeyed(subject: Subject) -> list[StepResult]:
    """Play an environment's only fork."""
    environment = subject.build()
    begun = subject.run(checked_reset(environment, seed=subject.seed))
    return subject.run(subject.go_on(environment.fork(seed=1), begun))


async def _part(subject: Subject, environment: Environment, steps: int, quiet: str) -> list[StepResult]:
    """Play, fork, let one go another way to its end, and return how the ``quiet`` one goes on."""
    *_, last = await subject.episode(environment, steps)
    fork = environment.fork()
    noisy, watched = (fork, environment) if quiet == "original" else (environment, fork)
    await subject.go_on(noisy, last, OTHER, first=steps)
    return await subject.go_on(watched, last, first=steps)


async def _side_by_side(subject: Subject, environment: Environment, steps: int) -> list[list[StepResult]]:
    *_, last = await subject.episode(environment, steps)
    both = (environment, environment.fork())
    return await gather(*(subject.go_on(one, last, first=steps) for one in both))
