"""Grade the texts of an evaluation with the graders of lm-evaluation-harness and Math-Verify, beside ours.

    python -m agents.evaluate policy.model=FOLDER benchmarks=[gsm8k,math500] output_file=result.json
    pip install 'lm-eval[math]'
    python benchmarks/rewards/peer_grades.py result.json

The table has the accuracy of each grader on the same texts. Below it stands every text on which ours and a peer differ.
``flexible`` is the filter ``flexible-extract`` of the harness's task gsm8k: the last number counts. ``box`` normalises
the last box as the harness's task minerva_math does. ``math-verify`` is Math-Verify on the whole text, as in that task.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from math_verify import parse, verify

END = 160
"""Characters at the end of a text that are shown."""


def flexible(text: str, gold: str) -> bool:
    """Grade by the filter ``flexible-extract``: the last number of the text, compared without commas and dollars."""
    numbers = re.findall(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text)
    last = next(part for part in numbers[-1] if part) if numbers else ""
    return re.sub(r"[,$]|\.$", "", last) == re.sub(r"[,$]|\.$", "", gold)


def box(text: str, gold: str) -> bool:
    """Grade the last box as lm-evaluation-harness normalises and compares final answers."""
    from lm_eval.tasks.minerva_math import utils

    boxed = utils.last_boxed_only_string(text)
    answer = utils.normalize_final_answer(utils.remove_boxed(boxed)) if boxed else ""
    return bool(utils.is_equiv(answer, utils.normalize_final_answer(gold)))


def math_verify(text: str, gold: str) -> bool:
    """Grade the whole text with Math-Verify."""
    return bool(verify(parse(rf"\boxed{{{gold}}}"), parse(text)))


PEERS: dict[str, dict[str, Callable[[str, str], bool]]] = {
    "gsm8k": {"flexible": flexible, "math-verify": math_verify},
    "math500": {"box": box, "math-verify": math_verify},
}


def compare(name: str, answers: list[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the rows of the table for a benchmark, and the texts that are graded differently."""
    texts = ["\n".join(answer["responses"]) for answer in answers]
    golds, ours = [answer["answer"] for answer in answers], [bool(answer["correct"]) for answer in answers]
    rows, differences = [f"| {name} | ours | {sum(ours) / len(ours):.1%} | |"], []
    for peer, grade in PEERS.get(name, {}).items():
        theirs = [grade(text, gold) for text, gold in zip(texts, golds, strict=True)]
        differ = [i for i in range(len(ours)) if ours[i] != theirs[i]]
        rows.append(f"| {name} | {peer} | {sum(theirs) / len(theirs):.1%} | {len(differ)} of {len(ours)} |")
        differences += [
            f"{name}, {peer}: ours {ours[i]}, theirs {theirs[i]}, gold {golds[i]!r}: ...{texts[i][-END:]!r}"
            for i in differ
        ]
    return rows, differences


def main() -> None:
    """Print the table and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="output_file of agents.evaluate benchmarks=[...]")
    arguments = parser.parse_args()
    results = json.loads(arguments.result.read_text())["benchmarks"]
    print("| benchmark | grader | accuracy | differs from ours |\n|---|---|---|---|")
    found = [compare(name, result["answers"]) for name, result in results.items()]
    print("\n".join(line for rows, _ in found for line in rows))
    print("\n".join(line for _, differences in found for line in differences))


if __name__ == "__main__":
    main()
