"""The solver calls of a training step: 120 calls in one batch and 120 sequential calls.

    python benchmarks/throughput/planner_solver.py
    python benchmarks/throughput/planner_solver.py calls=30 repeats=1

Both answer the same guidelines (30 problems x 4) with the embedded model and sample the same tokens. The script prints
a table.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from random import Random

from benchmarks.embedded_models.planner_solver.guidelines import WORDINGS
from reason_envs import make_environment
from reason_envs.batching import gather
from reason_envs.core import Environment, StepResult
from reason_envs.llm import make_engine

GROUP = 4
KINDS = [kind for kind in WORDINGS if kind != "stated"]


async def episode(environment: Environment, seed: int) -> StepResult:
    """Play an episode: one guideline and the answer of the solver. All episodes of a group have the same problem."""
    rng = Random(seed)
    await environment.reset(seed=seed // GROUP)
    return await environment.step({"planner": rng.choice(WORDINGS[rng.choice(KINDS)])})


async def together(environment: Environment, calls: int) -> list[StepResult]:
    """Play all episodes concurrently."""
    return await gather(*(episode(environment.fork(), i) for i in range(calls)))


async def one_by_one(environment: Environment, calls: int) -> list[StepResult]:
    """Play the episodes sequentially."""
    return [(await gather(episode(environment.fork(), i)))[0] for i in range(calls)]


def main() -> None:
    """Measure and print."""
    if "--help" in sys.argv:
        print(__doc__)
        return
    options = {"calls": 120, "repeats": 3}
    options.update((name, int(value)) for name, value in (argument.split("=", 1) for argument in sys.argv[1:]))
    engine = make_engine("transformers", model="embedded:planner_solver")
    environment = make_environment("planner_solver", solver=engine)
    asyncio.run(together(environment, GROUP))  # warm up
    seconds: dict[str, list[float]] = {}
    batches, answers = {}, {}
    for _ in range(options["repeats"]):
        for name, play in (("one batch", together), ("one by one", one_by_one)):
            calls, start = engine.batcher.calls, time.perf_counter()
            results = asyncio.run(play(environment, options["calls"]))
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            batches[name] = engine.batcher.calls - calls
            answers[name] = [(r.info["solver_texts"], r.info["generated_tokens"]) for r in results]
    if answers["one batch"] != answers["one by one"]:
        raise RuntimeError("Batching changed the answers, so the times cannot be compared.")
    tokens = sum(count for _, count in answers["one batch"])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{options['calls']} solver calls, {tokens:,} tokens, embedded model; median of {options['repeats']}\n")
    print("| | calls of the engine | seconds | tokens/s | times faster |\n|---|---|---|---|---|")
    for name, median in medians.items():
        faster = medians["one by one"] / median
        print(f"| {name} | {batches[name]} | {median:.2f} | {tokens / median:,.0f} | {faster:.1f} |")


if __name__ == "__main__":
    main()
