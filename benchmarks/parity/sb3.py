"""Our PPO and MaskablePPO of Stable-Baselines3 on ReasonTree-v0: same network, same initial weights, same budget.

    python benchmarks/parity/sb3.py

Both train the graph policy on live trees (embedded generator and step reward model) for the same number of actions,
with the same learning rate, epochs, mini-batches, clipping and coefficients. Then both answer the same held-out
problems with the same seeds. The table has the mean return with the 95 % interval of the paired difference, and the
actions per second of the complete training loop. Our PPO collects complete episodes; MaskablePPO collects a fixed
number of steps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from agents.algorithms.ppo import PPO, PPOConfig
from agents.algorithms.sb3 import SB3MaskablePPO, SB3PPOConfig
from agents.evaluation.evaluate_policy import evaluate_policy
from agents.evaluation.intervals import bootstrap_interval, first_tasks
from agents.policies.graph import GraphPolicy, GraphPolicyConfig
from reason_envs import make_environment
from reason_envs.core import Environment
from reason_envs.llm import make_engine
from reason_envs.reward_models.base import make_reward_model
from reason_envs.tasks import TaskSet, make

EPISODES = 64
"""Number of concurrent episodes."""
# For the same coefficient the value loss of Stable-Baselines3 is twice as large as ours.
ARMS: dict[str, tuple[Any, Any]] = {
    "own PPO": (PPO, PPOConfig(tasks_per_step=EPISODES, value_coef=0.5)),
    "SB3 MaskablePPO": (SB3MaskablePPO, SB3PPOConfig(n_envs=EPISODES, n_steps=10, vf_coef=0.25)),
}


def main() -> None:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", type=int, default=16_000, help="training budget of each learner in actions")
    parser.add_argument("--tasks", type=int, default=1024, help="number of held-out problems")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and training")
    parser.add_argument(
        "--report", type=Path, default=Path(__file__).parent / "sb3", help="folder of table and results"
    )
    arguments = parser.parse_args()
    parts = {"engine": make_engine("transformers"), "reward_model": make_reward_model("transformers")}
    environment, held_out = make_environment("reason_tree", **parts), make("chain_sum", "test")
    untrained = GraphPolicy(GraphPolicyConfig(), seed=arguments.seed, environment=environment)
    before, accuracy = asyncio.run(answer(environment, untrained, held_out, arguments))
    arms = {name: run_arm(name, environment, held_out, arguments) for name in ARMS}
    table = f"{report(arms)}\n\nUntrained: return {before.mean():+.3f}, accuracy {accuracy:.1%}."
    print(table)
    arguments.report.mkdir(exist_ok=True)
    (arguments.report / "table.md").write_text(table + "\n")
    results = {name: {**arm, "returns": arm["returns"].tolist()} for name, arm in arms.items()}
    options = {"actions": arguments.actions, "tasks": arguments.tasks, "seed": arguments.seed}
    (arguments.report / "results.json").write_text(json.dumps({**options, **results}) + "\n")


def run_arm(name: str, environment: Environment, held_out: TaskSet, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one learner to the budget and evaluate it on the held-out problems."""
    learner_class, config = ARMS[name]
    policy = GraphPolicy(GraphPolicyConfig(), seed=arguments.seed, environment=environment)
    train_tasks = make("chain_sum", "train")
    learner = learner_class(config, policy, environment, train_tasks, total_steps=1, seed=arguments.seed)
    actions, episodes, step, updating, started = 0, 0, 0, 0.0, time.monotonic()
    while actions < arguments.actions:
        trajectories = asyncio.run(learner.collect(step))
        collected = time.monotonic()
        learner.update(trajectories, step)
        updating += time.monotonic() - collected
        theirs = isinstance(config, SB3PPOConfig)
        actions += config.n_envs * config.n_steps if theirs else sum(len(t.decisions) for t in trajectories)
        episodes += len(trajectories)
        step += 1
        mean = np.mean([sum(d.reward for d in t.decisions) for t in trajectories])
        print(f"{name}: {actions} actions, {time.monotonic() - started:.0f} s, mean return {mean:+.3f}", flush=True)
    seconds = time.monotonic() - started
    returns, accuracy = asyncio.run(answer(environment, policy, held_out, arguments))
    return {
        "returns": returns,
        "accuracy": accuracy,
        "actions": actions,
        "episodes": episodes,
        "seconds": seconds,
        "updating": updating,
    }


async def answer(
    environment: Environment, policy: GraphPolicy, held_out: TaskSet, arguments: argparse.Namespace
) -> tuple[np.ndarray, float]:
    """Evaluate a policy. Return the return of each held-out problem, and the accuracy."""
    result, trajectories = await evaluate_policy(
        environment,
        policy,
        first_tasks(held_out, arguments.tasks),
        samples=1,
        seed=0,
        sampling=policy.sampling,
    )
    return np.array([sum(d.reward for d in t.decisions) for t in trajectories]), result.accuracy


def report(arms: dict[str, dict[str, Any]]) -> str:
    """Return the table and the comparison."""
    lines = [
        "| | return | accuracy | actions | episodes | seconds (updates) | actions per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arm in arms.items():
        lines.append(
            f"| {name} | {arm['returns'].mean():+.3f} | {arm['accuracy']:.1%} | "
            f"{arm['actions']:,} | {arm['episodes']:,} | {arm['seconds']:.0f} ({arm['updating']:.0f}) | "
            f"{arm['actions'] / arm['seconds']:.1f} |"
        )
    own, other = arms.values()
    gain = own["returns"] - other["returns"]
    low, high = bootstrap_interval(gain, seed=0)
    faster = (own["actions"] / own["seconds"]) / (other["actions"] / other["seconds"])
    return "\n".join(
        [
            *lines,
            "",
            f"Return, own minus SB3: {gain.mean():+.3f} (95 % {low:+.3f} to {high:+.3f}): "
            f"{'LOWER' if high < 0 else 'not lower'}.",
            f"Actions per second, own divided by SB3: {faster:.2f}: {'LOWER' if faster < 1 else 'not lower'}.",
        ]
    )


if __name__ == "__main__":
    main()
