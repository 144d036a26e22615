"""Advantage estimators: pure functions from rewards to the weights of the policy gradient."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from agents.masking import require_shape, zero_masked
from reason_envs.errors import ReasonEnvsError
from reason_envs.validation import check_choice

SCALES = ("std", "batch", "none")


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float, bootstrap: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    Masked positions are skipped as if they were absent, so gaps do not change the result.

    Args:
        rewards: [B, T], the reward of the token or decision at each position.
        values: [B, T], the value estimated before each position.
        mask: [B, T], true at positions with a token or decision.
        gamma: discount factor.
        lam: 0 relies on the values (one-step errors), 1 on the rewards (Monte Carlo).
        bootstrap: [B], the value after the last valid position of a truncated stream; 0 for a terminated stream.
            ``None``: 0 for all streams.

    Returns:
        Advantages and returns (advantages + values), both [B, T] and 0 where masked.

    Raises:
        ReasonEnvsError: a reward is not finite.
    """
    require_shape(mask.shape, rewards=rewards, values=values)
    require_shape(mask.shape[:1], bootstrap=bootstrap)
    valid = mask.bool()
    rewards, values = zero_masked(rewards, valid), zero_masked(values, valid)
    _check_finite(rewards)
    next_value = torch.zeros_like(values[:, 0]) if bootstrap is None else bootstrap.to(values)
    running = torch.zeros_like(next_value)
    advantages = torch.zeros_like(values)
    for t in range(mask.shape[1] - 1, -1, -1):
        error = rewards[:, t] + gamma * next_value - values[:, t]
        running = torch.where(valid[:, t], error + gamma * lam * running, running)
        next_value = torch.where(valid[:, t], values[:, t], next_value)
        advantages[:, t] = torch.where(valid[:, t], running, 0.0)
    return advantages, advantages + values


@torch.no_grad()
def group_relative(
    rewards: Tensor, group_ids: Sequence[Hashable], scale: str = "std", eps: float = 1e-6, leave_one_out: bool = False
) -> Tensor:
    """Compare each reward with its group's mean (GRPO, arXiv 2402.03300; Dr. GRPO, 2503.20783; RLOO, 2402.14740).

    Groups of one, and groups with equal rewards, get advantages of exactly 0 (see ``frac_zero_std``).

    Args:
        rewards: [N].
        group_ids: N hashable names, in any order; rewards with equal names form a group.
        scale: divisor of the differences: ``"std"`` (the group's sample standard deviation, n - 1, plus ``eps``),
            ``"batch"`` (that of all N rewards, arXiv 2508.08221) or ``"none"``.
        eps: added to the divisor, so that the division is finite.
        leave_one_out: whether the baseline is the mean of the others instead of the mean of all. The divisor is the
            same.

    Returns:
        Advantages [N].

    Raises:
        ReasonEnvsError: the scale is unknown, a reward is not finite, or the numbers of rewards and group ids differ.
    """
    check_choice("scale", scale, SCALES)
    groups, exact = _groups(rewards, group_ids), rewards.double()
    advantages = torch.zeros_like(exact)
    for members in groups:
        group = exact[members]
        if _no_signal(group):
            continue
        centred = group - group.mean()
        if leave_one_out:
            centred = centred * len(group) / (len(group) - 1)
        spread = {"std": group, "batch": exact}.get(scale)
        advantages[members] = centred if spread is None else centred / (spread.std() + eps)
    return advantages.to(rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype())


def frac_zero_std(rewards: Tensor, group_ids: Sequence[Hashable]) -> float:
    """Return the share of groups without a signal: groups of one or with equal rewards (0 if there are no groups)."""
    groups = _groups(rewards, group_ids)
    return sum(_no_signal(rewards[members]) for members in groups) / len(groups) if groups else 0.0


def _groups(rewards: Tensor, group_ids: Sequence[Hashable]) -> list[Tensor]:
    """Return the positions of each group, after checking rewards and ids."""
    if rewards.ndim != 1 or len(rewards) != len(group_ids):
        raise ReasonEnvsError(
            f"rewards has shape {list(rewards.shape)}, but there are {len(group_ids)} group ids: give one per reward."
        )
    _check_finite(rewards)
    # Tensor elements hash by identity, so that equal ids would form separate groups.
    names = group_ids.tolist() if isinstance(group_ids, Tensor) else group_ids
    positions: dict[Hashable, list[int]] = {}
    for i, name in enumerate(names):
        positions.setdefault(name, []).append(i)
    return [torch.tensor(members, device=rewards.device) for members in positions.values()]


def _check_finite(rewards: Tensor) -> None:
    finite = torch.isfinite(rewards)
    if not finite.all():
        place = tuple((~finite).nonzero()[0].tolist())
        where = ", ".join(map(str, place))
        raise ReasonEnvsError(f"rewards[{where}] is {float(rewards[place])}: every reward must be a finite number.")


def _no_signal(group: Tensor) -> bool:
    # Compared exactly: the rounded standard deviation of equal rewards need not be 0.
    return len(group) == 1 or bool(group.max() == group.min())
