"""Speed of ReasonTree-v0: 64 environments concurrently, sequentially, and replayed from a record.

    python benchmarks/throughput/tree_replay.py
    python benchmarks/throughput/tree_replay.py engine=vllm model=FOLDER reward_model=random

The live arms generate a step whenever it is legal, with the same random choices. Episodes restart when they end. Both
arms generate the same tokens (with vLLM except for near-ties). The replayed environments are a vector environment of
Gymnasium with random legal actions. They use the record of a third live arm, with one tree per problem, and no model.
The exit status is 0 if concurrent environments are at least ``FACTOR`` times as fast as sequential ones and the replay
reaches ``STEPS_PER_SECOND``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import reason_envs  # noqa: F401  (registers the environments)
from reason_envs import make_environment
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import BRANCH
from reason_envs.llm import make_engine
from reason_envs.reward_models import make_reward_model
from reason_envs.tasks import make
from reason_envs.tasks.task_list import ListTaskSet
from reason_envs.vector import VectorEpisodes

NUM_ENVS = 64
LIVE_STEPS = 24
"""Number of actions per environment in the live arms."""
RECORD_STEPS = 100
REPLAY_STEPS = 200
FACTOR = 10.0
STEPS_PER_SECOND = 2000.0


def problems() -> ListTaskSet:
    """Return as many tasks as environments, so that a record can have all their trees."""
    tasks = make("chain_sum")
    return ListTaskSet("some", "train", [tasks.ordered(i, 0) for i in range(NUM_ENVS)])


def any_legal(mask: np.ndarray, seed: int, slot: int, step: int) -> int:
    """Return a legal action that depends on seed, slot and step."""
    legal = np.flatnonzero(mask)
    return int(legal[derive_seed(seed, slot, step) % len(legal)])


def growing(mask: np.ndarray, seed: int, slot: int, step: int) -> int:
    """Return a legal EXPAND or BRANCH action if there is one, otherwise another legal action."""
    return any_legal(mask[: BRANCH + 1] if mask[: BRANCH + 1].any() else mask, seed, slot, step)


async def walk(episodes: VectorEpisodes, slots: list[int], steps: int, choose: Any) -> None:
    """Take actions in the given slots and restart episodes that end."""
    results = await episodes.reset(slots, {slot: slot for slot in slots})
    for step in range(steps):
        moves = {s: {"searcher": choose(results[s].info["action_mask"], 0, s, step)} for s in slots}
        results = await episodes.step(moves)
        results |= await episodes.reset([s for s, result in results.items() if result.done])


def live(engine: Any, together: bool, steps: int, choose: Any, **options: Any) -> tuple[int, float]:
    """Play 64 environments. Return the number of tokens and the seconds."""
    episodes = VectorEpisodes.of(make_environment("reason_tree", tasks=problems(), engine=engine, **options), NUM_ENVS)
    tokens, start = engine.generated_tokens, time.perf_counter()
    for slots in [list(range(NUM_ENVS))] if together else [[slot] for slot in range(NUM_ENVS)]:
        asyncio.run(walk(episodes, slots, steps, choose))
    return engine.generated_tokens - tokens, time.perf_counter() - start


def replay(path: str) -> float:
    """Return the steps per second of the vector environment on a record."""
    source = {"name": "recorded", "path": path}
    envs = gymnasium.make_vec(
        "ReasonTree-v0",
        NUM_ENVS,
        tasks=problems(),
        engine=source,
        reward_model=source,
        seed_scope="task",
    )
    _, infos = envs.reset(seed=0)
    start = time.perf_counter()
    for step in range(REPLAY_STEPS):
        masks = infos["action_mask"]
        _, _, _, _, infos = envs.step(np.array([any_legal(mask, 1, slot, step) for slot, mask in enumerate(masks)]))
    return NUM_ENVS * REPLAY_STEPS / (time.perf_counter() - start)


def main() -> int:
    """Measure and print the table. Return the exit status."""
    if "--help" in sys.argv:
        print(__doc__)
        return 0
    options = {"engine": "transformers", "model": "embedded", "reward_model": "transformers"}
    options.update(dict(argument.split("=", 1) for argument in sys.argv[1:]))
    engine: Any = make_engine(options["engine"], model=options["model"])
    shared = {"reward_model": make_reward_model(options["reward_model"])}
    live(engine, True, 3, growing, **shared)  # warm up
    tokens, seconds = live(engine, True, LIVE_STEPS, growing, **shared)
    same, alone = live(engine, False, LIVE_STEPS, growing, **shared)
    factor = (tokens / seconds) / (same / alone)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "record.jsonl")
        recorded = {kind: {"name": "recorded", "path": path} for kind in ("engine", "reward_model")}
        recording: Any = make_engine(recorded["engine"], live=engine)
        scores: Any = make_reward_model(recorded["reward_model"], live=shared["reward_model"])
        live(recording, True, RECORD_STEPS, any_legal, seed_scope="task", reward_model=scores)
        recording.record.close()
        scores.record.close()
        speed = replay(path)
        entries = len(recording.record)
    print("| arm | steps/s | generated tokens/s |\n|---|---|---|")
    for name, count, took in (
        ("64 concurrent environments", tokens, seconds),
        ("64 sequential environments", same, alone),
    ):
        print(f"| {name} | {NUM_ENVS * LIVE_STEPS / took:,.0f} | {count / took:,.0f} |")
    print(f"| 64 environments replayed from a record | {speed:,.0f} | - |")
    reached = factor >= FACTOR and speed >= STEPS_PER_SECOND
    print(f"Concurrent / sequential: {factor:.1f} (minimum {FACTOR:.0f}). Equal tokens: {tokens == same}.")
    engine.close()
    print(json.dumps({**options, "steps": entries, "cores": os.cpu_count(), "reached": reached}))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
