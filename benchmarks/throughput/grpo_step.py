"""Seconds of a GRPO step, ours against TRL's ``GRPOTrainer``, in one run on one machine.

    pip install trl && python benchmarks/throughput/grpo_step.py

Both sides use the embedded model in float32, the same problems, 32 prompts x 8 responses, temperature 1, at most 128
tokens, one optimizer step a batch, the same grader and the same allocator thresholds. The learning rate is 0, so that
both go on sampling from the same distribution: the token counts then agree but for chance, and are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents.train import ALLOCATOR

PROMPTS, SAMPLES, MAX_TOKENS = 32, 8, 128


@dataclass
class Measurement:
    """What one side took."""

    seconds: list[float] = field(default_factory=list)
    """Of each step."""
    tokens: list[int] = field(default_factory=list)
    """Generated in each step."""
    parts: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each part of a step, where it is known."""

    def row(self, name: str) -> str:
        """Return a line of the table."""
        parts = ", ".join(f"{part} {statistics.median(values):.2f}" for part, values in self.parts.items())
        return (
            f"| {name} | {statistics.median(self.seconds):.2f} ({min(self.seconds):.2f}-{max(self.seconds):.2f}) "
            f"| {statistics.median(self.tokens):.0f} | {parts} |"
        )


def ours(model: str, rank: int, steps: int) -> Measurement:
    """Time our collect, update and synchronisation."""
    from agents.grpo import GRPO, GRPOConfig
    from agents.optimizer import OptimizerConfig
    from agents.policies.language import LanguagePolicy, LanguagePolicyConfig
    from agents.sync import WeightSync
    from reason_envs import make_environment
    from reason_envs.llm import make_engine
    from reason_envs.tasks import make

    policy = LanguagePolicy(LanguagePolicyConfig(model=model, device="cpu", lora_rank=rank, max_tokens=MAX_TOKENS))
    engine: Any = make_engine("transformers", model=model, device="cpu")
    policy.engine = engine
    config = GRPOConfig(tasks_per_step=PROMPTS, samples_per_task=SAMPLES, optimizer=OptimizerConfig(learning_rate=0.0))
    tasks = make("chain_sum")
    environment = make_environment("single_turn_math", tasks=tasks)
    learner = GRPO(config, policy, environment, tasks, total_steps=steps, seed=0)
    sync = WeightSync(policy, engine)
    measured = Measurement(parts={"generation": [], "update": [], "synchronisation": []})

    async def run() -> None:
        for step in range(steps + 1):
            marks = [time.perf_counter()]
            trajectories = await learner.collect(step)
            marks.append(time.perf_counter())
            learner.update(trajectories, step)
            marks.append(time.perf_counter())
            await sync.push(step)
            marks.append(time.perf_counter())
            if step:  # the first warms up
                measured.seconds.append(marks[-1] - marks[0])
                measured.tokens.append(sum(len(d.choice.token_ids) for t in trajectories for d in t.decisions))
                for name, start, end in zip(measured.parts, marks, marks[1:], strict=False):
                    measured.parts[name].append(end - start)

    asyncio.run(run())
    return measured


def trl(model: str, rank: int, steps: int) -> Measurement:
    """Time TRL's trainer, by the ends of its steps."""
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from reason_envs.llm.loading import model_path
    from reason_envs.rewards import grade_math
    from reason_envs.tasks import make

    tasks = make("chain_sum")
    problems = [tasks.ordered(i, 0) for i in range(PROMPTS * (steps + 1))]
    rows = {
        "prompt": [[{"role": "user", "content": t.question}] for t in problems],
        "gold": [t.answer for t in problems],
    }
    measured = Measurement()

    def reward(completions: list[Any], gold: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        measured.tokens.append(sum(map(len, completion_ids)))
        return [1.0 if grade_math(c[0]["content"], g).correct else -1.0 for c, g in zip(completions, gold, strict=True)]

    class Clock(TrainerCallback):
        last = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.last = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            measured.seconds.append(time.perf_counter() - self.last)

    with tempfile.TemporaryDirectory() as folder:
        options = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=PROMPTS * SAMPLES,
            num_generations=SAMPLES,
            max_completion_length=MAX_TOKENS,
            max_steps=steps + 1,
            learning_rate=0.0,
            temperature=1.0,
            beta=0.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_steps=1000,
            disable_tqdm=True,
            model_init_kwargs={"dtype": "float32"},
            shuffle_dataset=False,
        )
        adapter = LoraConfig(r=rank, lora_alpha=32, target_modules="all-linear") if rank else None
        GRPOTrainer(
            model=model_path(model),
            args=options,
            reward_funcs=reward,
            train_dataset=datasets.Dataset.from_dict(rows),
            peft_config=adapter,
            callbacks=[Clock()],
        ).train()
    measured.seconds, measured.tokens = measured.seconds[1:], measured.tokens[1 : steps + 1]
    return measured


def main() -> None:
    """Measure both sides in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--ranks", type=int, nargs="*", default=[0, 16], help="LoRA ranks; 0 trains all weights")
    arguments = parser.parse_args()
    sides: dict[str, Callable[[str, int, int], Measurement]] = {"reason_envs": ours, "TRL": trl}
    print("| side | seconds a step, median (range) | tokens a step | parts |\n|---|---|---|---|")
    for rank in arguments.ranks:
        what = f"LoRA {rank}" if rank else "all weights"
        results = {name: side(arguments.model, rank, arguments.steps) for name, side in sides.items()}
        for name, measured in results.items():
            print(measured.row(f"{name}, {what}"), flush=True)
        ratio = statistics.median(results["reason_envs"].seconds) / statistics.median(results["TRL"].seconds)
        print(f"| ratio, {what} | {ratio:.2f} | | |", flush=True)


if __name__ == "__main__":
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    main()
