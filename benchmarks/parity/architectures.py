"""Do learner and engine compute what the model computes? Tiny random models of many architectures.

    python -m benchmarks.parity.architectures    # about five minutes on one core

For each architecture, data type and kind of training (all weights, or LoRA), the command runs the weight check that
precedes every training. If it passes, the weights are changed as training would change them and sent to the engine.
The engine samples responses to prompts of different lengths in one batch. Their log-probabilities, and those that the
learner computes in one padded batch, are compared with ``model(input_ids).logits`` of each response alone.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import csv
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from agents.policies.language import LanguagePolicy
from agents.policies.language_config import LanguagePolicyConfig
from agents.training.weight_sync import WeightSync
from agents.trajectory import Choice, Decision
from benchmarks.parity.tiny_models import KINDS, write_random_model
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Generation, GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine

PROMPTS = ("What is 3 + 4?", "Take your time with a longer problem: what is 12 + 30 - 4 + 5?")
SAMPLING = Sampling(max_tokens=12)
LORA_RANK = 4
CHANGE = 0.05
"""Standard deviation of the change that stands for training."""
LIMIT = 1e-4
"""Mean difference that is always allowed (nats per token)."""
ROUNDING_FACTOR = 5
"""Maximum difference as a multiple of what the data type's rounding causes in the model itself. Where rounding lets
tokens choose other experts, the multiples vary most."""
COLUMNS = [(dtype, training) for dtype in ("float32", "bfloat16") for training in ("full", "lora")]
RESULTS = Path(__file__).parents[1] / "RESULTS.md"
ROWS = Path(__file__).parent / "architectures" / "rows.csv"
BEGIN, END = "<!-- architectures -->", "<!-- end of architectures -->"


@dataclass
class Row:
    """Result of one architecture, data type and kind of training."""

    kind: str
    dtype: str
    training: str
    verdict: str = "wrong"
    learner: float = float("nan")
    """Mean difference of the learner's log-probabilities from the model's (nats per token)."""
    engine: float = float("nan")
    """Mean difference of the engine's log-probabilities from the model's (nats per token)."""
    rounding: float = float("nan")
    """Mean difference of the model's log-probabilities from those of its copy in float32 (nats per token)."""
    seconds: float = 0.0
    message: str = ""


def main() -> int:
    """Compare all architectures, print the table, and write it and the raw rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="model types of transformers (default: all of the list)")
    parser.add_argument("--rows", type=Path, default=ROWS, help="file of the raw rows")
    parser.add_argument("--report", type=Path, default=RESULTS, help="page whose table is replaced (all types only)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    start, rows = time.perf_counter(), []
    for kind in arguments.kinds or KINDS:
        for dtype, training in COLUMNS:
            rows.append(compare(kind, dtype, training))
        print(kind, *(f"{row.verdict} {row.seconds:.1f}s {row.message}" for row in rows[-4:]), sep=" | ", flush=True)
    text = report(rows)
    print(text)
    arguments.rows.parent.mkdir(parents=True, exist_ok=True)
    with arguments.rows.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    if not arguments.kinds:
        before, _, rest = arguments.report.read_text().partition(BEGIN)
        arguments.report.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    print(f"{time.perf_counter() - start:.0f} s, raw rows in {arguments.rows}")
    return any(row.verdict == "wrong" for row in rows)


def report(rows: list[Row]) -> str:
    """Return the summary, the table, and one reason for each architecture that is not right."""
    counts = Counter(row.verdict for row in rows)
    kinds = {row.kind: [r for r in rows if r.kind == row.kind] for row in rows}
    lines = [
        f"{len(kinds)} architectures, {len(rows)} combinations: {counts['right']} right, {counts['refused']} refused "
        f"by name, {counts['wrong']} wrong.",
        "",
        "| architecture | " + " | ".join(f"{dtype}, {training}" for dtype, training in COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    lines += [f"| {kind} | {' | '.join(cell(row) for row in own)} |" for kind, own in kinds.items()]
    reasons = {row.kind: row.message for row in rows if row.message}
    lines += ["", "```text", *(f"{kind}: {message}" for kind, message in reasons.items()), "```"]
    return "\n".join(lines)


def cell(row: Row) -> str:
    """Return a row's cell of the table."""
    return row.verdict if row.message else f"{row.verdict} ({max(row.learner, row.engine):.0e})"


def compare(kind: str, dtype: str, training: str) -> Row:
    """Return the result of one architecture. A refusal counts only if it names the model's class."""
    row, start = Row(kind, dtype, training), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = write_random_model(kind, Path(folder))
        try:
            measure(row, folder)
        except ReasonEnvsError as error:
            row.verdict = "refused" if type(model).__name__ in str(error) else "wrong"
            row.message = str(error).replace(folder, "MODEL")
        except Exception as error:  # noqa: BLE001 - any other error is a wrong result
            row.message = f"{type(error).__name__}: {error}"
    row.seconds = round(time.perf_counter() - start, 2)
    return row


def measure(row: Row, folder: str) -> None:
    """Fill the differences and the verdict of a row."""
    rank = LORA_RANK if row.training == "lora" else 0
    options = {"device": "cpu", "dtype": row.dtype, "precision": row.dtype}
    policy = LanguagePolicy(LanguagePolicyConfig(model=folder, lora_rank=rank, **options))
    engine = TransformersEngine(model=folder, device="cpu", dtype=row.dtype)
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    change(policy)
    sync.send(1)
    generations = sample(engine)
    with torch.no_grad(), policy.training_mode(False):
        learned = policy.evaluate([decision(generation) for generation in generations]).log_probs
        exact = copy.deepcopy(policy.model).float()
    gaps: dict[str, list[Tensor]] = {"learner": [], "engine": [], "rounding": []}
    for generation, own in zip(generations, learned, strict=True):
        expected = forward(policy.model, generation)
        gaps["learner"].append((own[: len(expected)] - expected).abs())
        gaps["engine"].append((torch.tensor(generation.log_probs) - expected).abs())
        gaps["rounding"].append((forward(exact, generation) - expected).abs())
    row.learner, row.engine, row.rounding = (torch.cat(gap).mean().item() for gap in gaps.values())
    if max(row.learner, row.engine) <= max(LIMIT, ROUNDING_FACTOR * row.rounding):
        row.verdict = "right"


def change(policy: LanguagePolicy) -> None:
    """Change the trainable weights."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += CHANGE * torch.randn(parameter.shape, generator=generator)


def sample(engine: TransformersEngine) -> list[Generation]:
    """Sample responses to prompts of different lengths in one batch."""
    requests = [
        GenerationRequest([{"role": "user", "content": text}], seed, SAMPLING, n=3) for seed, text in enumerate(PROMPTS)
    ]
    return [generation for group in engine.generate_batch(requests) for generation in group]


def decision(generation: Generation) -> Decision:
    """Return the decision that a learner evaluates."""
    choice = Choice(
        generation.token_ids, generation.log_probs, SAMPLING, "stop", 0, generation.prompt_ids, generation.text
    )
    return Decision("e", "a", 0, choice, 0.0, "g")


@torch.no_grad()
def forward(model: Any, generation: Generation) -> Tensor:
    """Return the log-probabilities of the sampled tokens in a forward pass of the model."""
    ids = torch.tensor([[*generation.prompt_ids, *generation.token_ids]])
    logits = model(input_ids=ids).logits[0, len(generation.prompt_ids) - 1 : -1].float()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(generation.token_ids)[:, None]).squeeze(-1)


if __name__ == "__main__":
    sys.exit(main())
