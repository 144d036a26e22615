"""Warnings about runs that cannot learn, each with the option that fixes it."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from agents.algorithms.config import OptimizerConfig
from agents.config.schema import TrainConfig, options
from reason_envs.rewards import RewardConfig

PATIENCE = 3
"""Training steps in a row after which a warning is given."""
MOST, HALF = 0.9, 0.5
"""Shares of responses without an answer, and of responses that are cut off, from which on a run is warned."""
KL_LIMIT = 0.1
"""KL divergence per token (nats) above which a policy has usually forgotten how to write."""
SILENCE_MARGIN = 0.1
"""How much more than an answer silence must earn on average."""


def _lacks_form(metrics: Mapping[str, float], config: TrainConfig) -> str | None:
    share = metrics.get("frac_no_answer", 0.0)
    if share < MOST:
        return None
    return (
        f"{share:.0%} of the responses lack an answer in the expected form, so their reward says little. Ask for "
        "the form in env.system_prompt, accept other forms with env.reward.fallbacks=[last_number], or raise "
        "policy.max_tokens if responses are cut off."
    )


def _no_gradient(metrics: Mapping[str, float], config: TrainConfig) -> str | None:
    if metrics.get("frac_zero_std", 0.0) < 1:
        return None
    return (
        "In every group all responses earned the same, so the gradient is zero. Choose problems that the model solves "
        "sometimes (env.tasks), or raise algo.samples_per_task."
    )


def _silence_pays(metrics: Mapping[str, float], config: TrainConfig) -> str | None:
    reward = options(config.env).get("reward")
    answered = 1 - metrics.get("frac_no_answer", 0.0)
    if not isinstance(reward, RewardConfig) or "accuracy" not in metrics or not answered:
        return None
    right = metrics["accuracy"] / answered
    earned = right * reward.correct + (1 - right) * reward.wrong
    if reward.no_answer - earned < SILENCE_MARGIN:
        return None
    return (
        f"{right:.0%} of the answers are right, so an answer earns {earned:.2f} on average and no answer earns "
        f"{reward.no_answer}: the policy learns to be silent. Set env.reward.wrong=0 and env.reward.no_answer=0, or "
        "choose easier problems."
    )


def _cut_off(metrics: Mapping[str, float], config: TrainConfig) -> str | None:
    share = metrics.get("frac_truncated", 0.0)
    if share < HALF:
        return None
    return (
        f"{share:.0%} of the responses end at policy.max_tokens={options(config.policy).get('max_tokens')}, before "
        "they are complete: raise it."
    )


def _runs_away(metrics: Mapping[str, float], config: TrainConfig) -> str | None:
    name = max(("kl", "approx_kl", "step_kl"), key=lambda key: metrics.get(key, 0.0))
    optimizer = options(config.algo).get("optimizer")
    if metrics.get(name, 0.0) < KL_LIMIT or not isinstance(optimizer, OptimizerConfig):
        return None
    return (
        f"{name} is {metrics[name]:.2g} nats per token: the policy moves too fast. Lower "
        f"algo.optimizer.learning_rate={optimizer.learning_rate:g}."
    )


RULES: dict[str, Callable[[Mapping[str, float], TrainConfig], str | None]] = {
    "no answers": _lacks_form,
    "no gradient": _no_gradient,
    "silence pays": _silence_pays,
    "cut off": _cut_off,
    "moves too fast": _runs_away,
}
"""A rule returns its warning while it applies to the metrics of a training step."""


class Health:
    """Gives each warning once, when its rule has applied to ``PATIENCE`` training steps in a row."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._rules = dict(RULES)
        self._in_a_row: Counter[str] = Counter()

    def warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """Return the warnings that are due after a training step with these metrics."""
        due = []
        for name, rule in list(self._rules.items()):
            warning = rule(metrics, self._config)
            self._in_a_row[name] = 0 if warning is None else self._in_a_row[name] + 1
            if warning is not None and self._in_a_row[name] == PATIENCE:
                due.append(f"Warning: {warning}")
                del self._rules[name]
        return due
