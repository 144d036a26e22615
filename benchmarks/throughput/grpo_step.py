"""Seconds per GRPO step of our trainer and of ``GRPOTrainer`` of TRL.

    pip install trl==1.16.0
    python -m benchmarks.throughput.grpo_step                     # from the root of the repository; about 20 minutes
    python -m benchmarks.throughput.grpo_step --lengths natural --train full

Both sides use the embedded model in float32, the same 32 problems x 8 samples in every step, temperature 1, at most 128
new tokens, one AdamW step at learning rate 0 (so that responses do not change), two threads, raised allocator
thresholds of glibc, and a reward without cost (the parity of a checksum). ``natural``: responses end where the model
ends them. ``long``: a copy of the model very rarely ends a response, so every response has 128 tokens.

Each side runs in separate processes, which alternate. The table has medians over the steps of all processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.train import ALLOCATOR
from benchmarks.throughput.trl_side import MAX_TOKENS, SAMPLES, TASKS, require_trl, scratch, trl_trainer

WARM_UP = 2
STEPS = 6
TURNS = 2
THREADS = 2
LORA_RANK = 16
SECTIONS = ("generation", "log-probs", "loss and backward")


def parity(response: str, answer: str) -> float:
    """Return 0 or 1, depending only on the text."""
    return float(zlib.crc32(response.encode()) % 2)


def parity_reward(response: str, task: Any) -> float:
    """Return `parity` as a reward for ``env.reward.name``."""
    return parity(response, task.answer)


class Stopwatch:
    """Measures the seconds per section of every step. In nested sections the time counts for the inner one."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        self._inner = [0.0]
        self._started = time.perf_counter()

    def watch(self, owner: Any, method: str, section: str) -> None:
        """Measure a method of an object as part of a section."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            self._inner.append(0.0)
            try:
                return original(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - started
                self._now[section] += seconds - self._inner.pop()
                self._inner[-1] += seconds

        setattr(owner, method, timed)

    def count(self, tokens: int) -> None:
        """Add a number of generated tokens."""
        self._now["tokens"] += tokens

    def lap(self) -> None:
        """End a step."""
        ended = time.perf_counter()
        self.steps.append({**self._now, "step": ended - self._started})
        self._now.clear()
        self._started = ended


def measure_ours(model: str, lora_rank: int, steps: int) -> list[dict[str, float]]:
    """Measure complete steps of our trainer."""
    from agents.config.compose import compose_config
    from agents.training.build import build
    from agents.training.resolve import resolve
    from agents.training.trainer import Trainer

    watch = Stopwatch()

    class Watched(Trainer):
        async def prepare(self) -> None:
            await super().prepare()
            batcher = self.run.engines[0].batcher
            count_tokens(batcher, "_function", watch, lambda out: [s.token_ids for n in out for s in n])
            watch.watch(batcher, "_function", "generation")
            watch.watch(self.run.policy, "evaluate", "log-probs")
            watch.watch(self.learner.policy_update, "loss", "loss and backward")
            watch.watch(self.learner.optimizer, "backward", "loss and backward")

        async def train_step(self) -> None:
            await super().train_step()
            watch.lap()

    with scratch() as folder:
        overrides = [
            *(f"output_dir={folder}/run", f"steps={steps}", f"policy.model={model}", f"policy.lora_rank={lora_rank}"),
            *("eval_every=0", "save_every=0", "algo.optimizer.learning_rate=0"),
            *(f"algo.tasks_per_step={TASKS}", f"algo.samples_per_task={SAMPLES}", f"policy.max_tokens={MAX_TOKENS}"),
            "env.reward.name=benchmarks.throughput.grpo_step:parity_reward",
        ]
        asyncio.run(Watched(build(resolve(compose_config(overrides)))).train())
    return watch.steps


def measure_trl(model: str, lora_rank: int, steps: int) -> list[dict[str, float]]:
    """Measure complete steps of the trainer of TRL."""
    from transformers import TrainerCallback

    from reason_envs.tasks import make

    watch = Stopwatch()

    class Laps(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            watch.lap()

    problems = make("chain_sum")
    tasks = [problems.ordered(i, 0) for i in range(TASKS * steps)]
    with scratch() as folder:
        trainer = trl_trainer(model, tasks, parity, folder, learning_rate=0.0, lora_rank=lora_rank)
        trainer.add_callback(Laps())
        count_tokens(trainer, "_generate_single_turn", watch, lambda out: out[0])
        watch.watch(trainer, "_generate_single_turn", "generation")
        watch.watch(trainer, "_get_per_token_logps_and_entropies", "log-probs")
        watch.watch(trainer, "compute_loss", "loss and backward")
        watch.watch(trainer.accelerator, "backward", "loss and backward")
        trainer.train()
    return watch.steps


def count_tokens(owner: Any, method: str, watch: Stopwatch, responses: Callable[[Any], list[list[int]]]) -> None:
    """Count the tokens that a method returns."""
    original = getattr(owner, method)

    def counting(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        watch.count(sum(len(ids) for ids in responses(out)))
        return out

    setattr(owner, method, counting)


SIDES = {"ours": measure_ours, "trl": measure_trl}


def main() -> None:
    """Measure, write the results as JSON and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lengths", nargs="+", choices=("natural", "long"), default=["natural", "long"], help="lengths of responses"
    )
    parser.add_argument(
        "--train", nargs="+", choices=("full", "lora"), default=["full", "lora"], help="trained weights"
    )
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=list(SIDES), help="trainers to measure")
    parser.add_argument("--output", type=Path, default=Path("runs/grpo_step.json"), help="file for the results")
    parser.add_argument("--child", nargs=4, metavar=("SIDE", "MODEL", "RANK", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, model, rank, file = arguments.child
        Path(file).write_text(json.dumps(SIDES[side](model, int(rank), WARM_UP + STEPS)[WARM_UP:]))
        return
    require_trl()
    results: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "threads": THREADS, "rows": []}
    with scratch() as folder:
        for lengths in arguments.lengths:
            model = "embedded" if lengths == "natural" else endless(folder)
            for train in arguments.train:
                steps = turns(arguments.sides, model, LORA_RANK if train == "lora" else 0, folder)
                results["rows"] += [{"lengths": lengths, "train": train, "side": s, "steps": steps[s]} for s in steps]
                print(table(results["rows"][-len(steps) :], heading=len(results["rows"]) == len(steps)), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results) + "\n")


def endless(folder: str) -> str:
    """Save a copy of the model whose responses very rarely end. Return the folder."""
    from benchmarks.throughput.generation import without_end

    return without_end("embedded", Path(folder) / "endless")


def turns(sides: list[str], model: str, lora_rank: int, folder: str) -> dict[str, list[dict[str, float]]]:
    """Run the sides alternately, each time in a new process."""
    environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "false"}
    steps: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(TURNS):
        for side in sides:
            file = Path(folder) / "steps.json"
            child = [sys.executable, "-m", "benchmarks.throughput.grpo_step"]
            child += ["--child", side, model, str(lora_rank), str(file)]
            out = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
            if out.returncode:
                raise SystemExit(f"{' '.join(child)} ended with {out.returncode}:\n{out.stderr[-2000:]}")
            steps[side] += json.loads(file.read_text())
    return steps


def table(rows: list[dict[str, Any]], *, heading: bool) -> str:
    """Return the medians as a markdown table."""
    columns = ("lengths", "train", "side", "tokens a step", "seconds a step", *SECTIONS, "rest", "against TRL")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)] if heading else []
    whole = {row["side"]: statistics.median(step["step"] for step in row["steps"]) for row in rows}
    for row in rows:
        steps = row["steps"]
        parts = [statistics.median(step.get(section, 0.0) for step in steps) for section in SECTIONS]
        rest = statistics.median(step["step"] - sum(step.get(section, 0.0) for section in SECTIONS) for step in steps)
        seconds = " | ".join(f"{value:.2f}" for value in (whole[row["side"]], *parts, rest))
        tokens = statistics.median(step["tokens"] for step in steps)
        ratio = f"{whole[row['side']] / whole['trl']:.2f}" if "trl" in whole else "-"
        lines.append(f"| {row['lengths']} | {row['train']} | {row['side']} | {tokens:,.0f} | {seconds} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
