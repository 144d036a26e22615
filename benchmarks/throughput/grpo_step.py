"""Seconds and memory per GRPO step of our trainer and of ``GRPOTrainer`` of TRL.

    pip install trl==1.16.0
    python -m benchmarks.throughput.grpo_step                     # from the root of the repository; about 20 minutes
    python -m benchmarks.throughput.grpo_step --lengths natural --train full
    python -m benchmarks.throughput.grpo_step --model FOLDER --tasks 8 --max-tokens 48 --trl-micro-batches 64 16
    python -m benchmarks.throughput.grpo_step --model FOLDER --tasks 8 --max-tokens 48 --dtypes float32 bfloat16

Both sides use the same model (by default the embedded one) in the same data types (by default float32), the same
problems (by default 32) x 8 samples in every step, temperature 1, at most 128 new tokens (by default), one AdamW step
at learning rate 0 (so that responses do not change), two threads, raised allocator thresholds of glibc, and a reward
without cost (the parity of a checksum).
``natural``: responses end where the model
ends them. ``long``: a copy of the model very rarely ends a response, so every response has the maximum length.

Each side runs in separate processes, which alternate. The table has medians over the steps of all processes, and the
peak of the resident memory of a process, weights and libraries included. The second table divides the shortest possible
time of each section of ours by its measured time: see `roofline.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agents.train import ALLOCATOR
from benchmarks.throughput.roofline import limits, matrix_speed, roofline_table
from benchmarks.throughput.trl_side import MAX_TOKENS, SAMPLES, TASKS, Setting, require_trl, scratch, trl_trainer

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

    def count(self, **amounts: float) -> None:
        """Add amounts, such as a number of generated tokens, to the step."""
        for name, amount in amounts.items():
            self._now[name] += amount

    def lap(self) -> None:
        """End a step."""
        ended = time.perf_counter()
        self.steps.append({**self._now, "step": ended - self._started})
        self._now.clear()
        self._started = ended


def measure_ours(setting: Setting, steps: int) -> list[dict[str, float]]:
    """Measure complete steps of our trainer."""
    from agents.config.compose import compose_config
    from agents.training.build import build
    from agents.training.resolve import resolve
    from agents.training.trainer import Trainer

    watch, speed = Stopwatch(), matrix_speed(setting.dtype)

    class Watched(Trainer):
        async def prepare(self) -> None:
            await super().prepare()
            update = self.learner.update

            def counted(trajectories: Any, step: int) -> Any:
                watch.count(**limits(self.run.policy, trajectories, speed))
                return update(trajectories, step)

            self.learner.update = counted  # type: ignore[method-assign]
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
            *(f"output_dir={folder}/run", f"steps={steps}", f"policy.model={setting.model}"),
            *("eval_every=0", "save_every=0", "algo.optimizer.learning_rate=0", "env.system_prompt=null"),
            *(f"algo.tasks_per_step={setting.tasks}", f"algo.samples_per_task={SAMPLES}"),
            *(f"policy.lora_rank={setting.lora_rank}", f"policy.max_tokens={setting.max_tokens}"),
            *(f"policy.precision={setting.dtype}", f"engine.dtype={setting.dtype}"),
            "env.reward.name=benchmarks.throughput.grpo_step:parity_reward",
        ]
        asyncio.run(Watched(build(resolve(compose_config(overrides)))).train())
    return watch.steps


def measure_trl(setting: Setting, steps: int) -> list[dict[str, float]]:
    """Measure complete steps of the trainer of TRL."""
    from transformers import TrainerCallback

    from reason_envs.tasks import make

    watch = Stopwatch()

    class Laps(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            watch.lap()

    problems = make("chain_sum")
    tasks = [problems.ordered(i, 0) for i in range(setting.tasks * steps)]
    with scratch() as folder:
        trainer = trl_trainer(setting, tasks, parity, folder, learning_rate=0.0)
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
        watch.count(tokens=sum(len(ids) for ids in responses(out)))
        return out

    setattr(owner, method, counting)


SIDES = {"ours": measure_ours, "trl": measure_trl}


def main() -> None:
    """Measure, write the results as JSON and print the table."""
    arguments = parsed()
    if arguments.child:
        side, setting, steps, file = arguments.child
        rows = SIDES[side](Setting(**json.loads(setting)), WARM_UP + int(steps))[WARM_UP:]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        Path(file).write_text(json.dumps([{**row, "peak": peak} for row in rows]))
        return
    if "trl" in arguments.sides:
        require_trl()
    results: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "threads": THREADS, "rows": []}
    with scratch() as folder:
        for lengths in arguments.lengths:
            model = arguments.model if lengths == "natural" else endless(arguments.model, folder)
            for train in arguments.train:
                rank = LORA_RANK if train == "lora" else 0
                setting = Setting(model, rank, arguments.tasks, arguments.max_tokens)
                rows = turns(sides(arguments, setting), arguments.steps, folder)
                results["rows"] += [{"lengths": lengths, "train": train, "side": s, "steps": rows[s]} for s in rows]
                print(table(results["rows"][-len(rows) :], heading=len(results["rows"]) == len(rows)), flush=True)
    ours = [row for row in results["rows"] if row["side"].startswith("ours")]
    print(roofline_table(ours, SECTIONS))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results) + "\n")


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, choices = parser.add_argument, {"lengths": ("natural", "long"), "train": ("full", "lora"), "sides": (*SIDES,)}
    add("--lengths", nargs="+", choices=choices["lengths"], default=["natural", "long"], help="lengths of responses")
    add("--train", nargs="+", choices=choices["train"], default=["full", "lora"], help="trained weights")
    add("--sides", nargs="+", choices=choices["sides"], default=list(SIDES), help="trainers to measure")
    add("--model", default=Setting.model, help="name or folder of the model (default: %(default)s)")
    add("--tasks", type=int, default=TASKS, help="problems per step (default: %(default)s)")
    add("--max-tokens", type=int, default=MAX_TOKENS, help="maximum tokens per response (default: %(default)s)")
    add("--steps", type=int, default=STEPS, help="measured steps per process (default: %(default)s)")
    add("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"], help="data types of both sides")
    add("--trl-micro-batches", type=int, nargs="+", help="responses per micro-batch of TRL (default: all of a step)")
    add("--output", type=Path, default=Path("runs/grpo_step.json"), help="file for the results")
    add("--child", nargs=4, metavar=("SIDE", "SETTING", "STEPS", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def sides(arguments: argparse.Namespace, setting: Setting) -> dict[str, tuple[str, Setting]]:
    """Return the sides to measure by label: each in each data type, TRL also in each size of its micro-batches."""
    found = {}
    for dtype in arguments.dtypes:
        found[f"ours, {dtype}"] = ("ours", replace(setting, dtype=dtype))
        for size in arguments.trl_micro_batches or [None]:
            label = f"trl, {dtype}" if size is None else f"trl, {dtype}, micro-batches of {size}"
            found[label] = ("trl", replace(setting, micro_batch=size, dtype=dtype))
    return {label: each for label, each in found.items() if each[0] in arguments.sides}


def endless(model: str, folder: str) -> str:
    """Save a copy of a model whose responses very rarely end. Return the folder."""
    from benchmarks.throughput.generation import without_end

    return without_end(model, Path(folder) / "endless")


def turns(sides: dict[str, tuple[str, Setting]], steps: int, folder: str) -> dict[str, list[dict[str, float]]]:
    """Run the sides alternately, each time in a new process."""
    environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "false"}
    rows: dict[str, list[dict[str, float]]] = {label: [] for label in sides}
    for _ in range(TURNS):
        for label, (side, setting) in sides.items():
            file = Path(folder) / "steps.json"
            child = [sys.executable, "-m", "benchmarks.throughput.grpo_step"]
            child += ["--child", side, json.dumps(asdict(setting)), str(steps), str(file)]
            out = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
            if out.returncode:
                raise SystemExit(f"{' '.join(child)} ended with {out.returncode}:\n{out.stderr[-2000:]}")
            rows[label] += json.loads(file.read_text())
    return rows


def table(rows: list[dict[str, Any]], *, heading: bool) -> str:
    """Return the medians as a markdown table. The ratio is that to the fastest setting of TRL."""
    columns = ("lengths", "train", "side", "tokens a step", "seconds a step", *SECTIONS, "rest", "peak GiB")
    columns = (*columns, "against TRL")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)] if heading else []
    whole = {row["side"]: statistics.median(step["step"] for step in row["steps"]) for row in rows}
    peers = [seconds for side, seconds in whole.items() if not side.startswith("ours")]
    for row in rows:
        steps = row["steps"]
        parts = [statistics.median(step.get(section, 0.0) for step in steps) for section in SECTIONS]
        rest = statistics.median(step["step"] - sum(step.get(section, 0.0) for section in SECTIONS) for step in steps)
        seconds = " | ".join(f"{value:.2f}" for value in (whole[row["side"]], *parts, rest))
        tokens, peak = statistics.median(step["tokens"] for step in steps), max(step["peak"] for step in steps)
        ratio = f"{whole[row['side']] / min(peers):.2f}" if peers else "-"
        lines.append(
            f"| {row['lengths']} | {row['train']} | {row['side']} | {tokens:,.0f} | {seconds} | {peak:.1f} | {ratio} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
