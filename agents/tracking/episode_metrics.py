"""Metrics of the episodes of a training step, under the names that runs log."""

from collections.abc import Sequence

import numpy as np

from agents.trajectory import Trajectory

RENAMED_METRICS = {"correct": "accuracy", "no_answer": "frac_no_answer"}
"""Metrics of an environment that a run logs under another name than ``episode/NAME``, and that name."""


def describe(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Return the metrics of collected episodes, and those of each agent if there are several.

    ``candidate_reward`` is the mean reward of all candidates, if turns had several of them. The entropy is an
    estimate: the mean of the negative log-probabilities of the sampled tokens, in nats.
    """
    decisions = [d for t in trajectories for d in t.decisions]
    metrics = {
        "reward": float(np.mean([t.total_reward for t in trajectories])),
        "episode_length": float(np.mean([t.length for t in trajectories])),
        "frac_cut_off": float(np.mean([t.truncated for t in trajectories])),
    }
    has_candidates = not all(d.on_path for d in decisions)
    if has_candidates:
        metrics["candidate_reward"] = float(np.mean([d.reward for d in decisions]))
    agents = dict.fromkeys(d.agent for d in decisions)
    for agent in agents if len(agents) > 1 else ():
        mine = [d for d in decisions if d.agent == agent]
        returns = [t.stream_return(agent) for t in trajectories if any(d.agent == agent for d in t.path)]
        metrics[f"reward/{agent}"] = float(np.mean(returns))
        metrics[f"response_length/{agent}"] = float(np.mean([d.choice.generated_tokens for d in mine]))
        if has_candidates:
            metrics[f"candidate_reward/{agent}"] = float(np.mean([d.reward for d in mine]))
    written = [d for d in decisions if d.choice.generated_tokens]
    if written:
        metrics["response_length"] = float(np.mean([d.choice.generated_tokens for d in written]))
        metrics["overlong_prompts"] = float(np.mean([t.overlong_prompts for t in trajectories]))
        metrics["frac_truncated"] = float(np.mean([d.choice.finish_reason == "length" for d in written]))
    log_probs = [p for d in decisions for p in d.choice.log_probs or []]
    if log_probs:
        metrics["entropy"] = -float(np.mean(log_probs))
    for name in dict.fromkeys(name for t in trajectories for name in t.metrics if name != "episode_length"):
        values = [t.metrics[name] for t in trajectories if name in t.metrics]
        metrics[RENAMED_METRICS.get(name, f"episode/{name}")] = float(np.mean(values))
    return metrics
