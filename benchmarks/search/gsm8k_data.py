"""The published model solutions of GSM8K, which two benchmarks read: four models' solutions of each test problem."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FILE = Path("gsm8k") / "example_model_solutions.jsonl"
HOW_TO_GET = (
    f"Download {FILE.name} from https://github.com/openai/grade-school-math into FOLDER/{FILE.parent} and pass --data "
    "FOLDER, or set REASON_ENVS_DATA=FOLDER."
)


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options ``--data`` and ``--seed``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("REASON_ENVS_DATA")
    parser.add_argument("--data", metavar="FOLDER", default=default, help=f"folder that holds {FILE}. {HOW_TO_GET}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and of the trainings (default 0)")
    return parser


def read_rows(folder: str | None) -> list[dict[str, Any]]:
    """Read one record per problem from ``folder``.

    Raises:
        ReasonEnvsError: if no folder is given or the file is missing.
    """
    if folder is None:
        raise ReasonEnvsError(f"This benchmark needs the model solutions of GSM8K. {HOW_TO_GET}")
    path = Path(folder) / FILE
    if not path.is_file():
        raise ReasonEnvsError(f"The file {path} does not exist. {HOW_TO_GET}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
