"""A run as one web page that stands alone: curves, evaluations, frontier, episodes before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.report.data import run_data
from agents.report.page import write_page


def write_report(folders: Sequence[Path], output: Path) -> None:
    """Write the page of a run, or of several side by side.

    Args:
        folders: run folders.
        output: the HTML file.

    Raises:
        ReasonEnvsError: a folder holds no run, or the page cannot be written.
    """
    write_page([run_data(folder) for folder in folders], output)
