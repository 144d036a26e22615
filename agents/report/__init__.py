"""One web page per run: curves, evaluations, frontier, and episodes before and after training.

`python -m agents.report` writes the page. It needs no network.
This package may import configuration, evaluation and tracking, but never a trainer.
"""

from collections.abc import Sequence
from pathlib import Path

from agents.report.data import difference, run_data
from agents.report.page import write_page


def write_report(folders: Sequence[Path], output: Path) -> None:
    """Write the HTML page of one run folder, or of several side by side.

    Raises:
        ReasonEnvsError: a folder is not a run folder, or the page cannot be written.
    """
    runs = [run_data(folder) for folder in folders]
    if len({run["name"] for run in runs}) < len(runs):  # such as a/run and b/run
        for run, folder in zip(runs, folders, strict=True):
            run["name"] = "/".join(folder.resolve().parts[-2:])
    for run in runs[1:]:
        ends = [each["recordings"][-1:] for each in (runs[0], run)]
        run["versus"] = difference(*ends[0], *ends[1]) if all(ends) else None
    write_page(runs, output)
