"""Figures of a step's episodes, as runs log them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.trajectory import Trajectory

NAMED_FIGURES = {"correct": "accuracy", "no_answer": "frac_no_answer"}
"""Figures of an environment that every run shows, and their names."""


def describe(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Figures of the collected episodes; the entropy is estimated by the samples' own log-probabilities."""
    decisions = [d for t in trajectories for d in t.decisions]
    metrics = {
        "reward": float(np.mean([t.total_reward for t in trajectories])),
        "episode_length": float(np.mean([t.length for t in trajectories])),
        "frac_cut_off": float(np.mean([t.truncated for t in trajectories])),
        **_episode_figures(trajectories),
        **_agent_figures(trajectories),
    }
    written = [d for d in decisions if d.choice.generated_tokens]
    if written:
        metrics["response_length"] = float(np.mean([d.choice.generated_tokens for d in written]))
        metrics["overlong_prompts"] = float(np.mean([t.overlong_prompts for t in trajectories]))
        metrics["frac_truncated"] = float(np.mean([d.choice.finish_reason == "length" for d in written]))
    log_probs = [p for d in decisions for p in d.choice.log_probs or []]
    if log_probs:
        metrics["entropy"] = -float(np.mean(log_probs))
    for source, name in NAMED_FIGURES.items():
        values = [t.metrics[source] for t in trajectories if source in t.metrics]
        if values:
            metrics[name] = float(np.mean(values))
    return metrics


def _episode_figures(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Means of the numbers that the environment tells at the end of an episode, besides those that have own names."""
    named = (*NAMED_FIGURES, "episode_length")
    names = {name: None for t in trajectories for name in t.metrics if name not in named}
    values = {name: [t.metrics[name] for t in trajectories if name in t.metrics] for name in names}
    return {f"episode/{name}": float(np.mean(found)) for name, found in values.items()}


def _agent_figures(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """What each agent earned in an episode and wrote at a turn; and all candidates, where several were drawn."""
    figures: dict[str, float] = {}
    decisions = [d for t in trajectories for d in t.decisions]
    agents = dict.fromkeys(d.agent for d in decisions)
    for agent in agents if len(agents) > 1 else ():
        mine = [d for d in decisions if d.agent == agent]
        returns = [t.stream_return(agent) for t in trajectories if any(d.agent == agent for d in t.path)]
        figures[f"reward/{agent}"] = float(np.mean(returns))
        figures[f"response_length/{agent}"] = float(np.mean([d.choice.generated_tokens for d in mine]))
    if not all(d.on_path for d in decisions):
        figures["candidate_reward"] = float(np.mean([d.reward for d in decisions]))
        for agent in agents if len(agents) > 1 else ():
            figures[f"candidate_reward/{agent}"] = float(np.mean([d.reward for d in decisions if d.agent == agent]))
    return figures
