"""The most frequent of several answers to one problem."""

from collections.abc import Sequence

from reason_envs.rewards.math.normalise import normalise


def vote(answers: Sequence[str], weights: Sequence[float] | None = None) -> int:
    """Return the index of the first answer that is written like those with the highest sum of weights.

    The earlier answer wins a tie. Without weights, all answers weigh the same.
    """
    keys = [normalise(answer) for answer in answers]
    sums = dict.fromkeys(keys, 0.0)
    for key, weight in zip(keys, weights or [1.0] * len(keys), strict=True):
        sums[key] += weight
    return keys.index(max(sums, key=lambda key: sums[key]))
