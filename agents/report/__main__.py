"""``python -m agents.report RUN [RUN ...] [--output FILE]``: write the page of one run, or of several side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from agents.config.command_line import report_errors
from agents.report import write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m agents.report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--output", type=Path, help="HTML file (default: RUN/report.html, or comparison.html)")
    given = parser.parse_args(arguments)
    first = given.runs[0].resolve()
    output = given.output or (first / "report.html" if len(given.runs) == 1 else first.parent / "comparison.html")
    with report_errors():
        write_report(given.runs, output)
        print(f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB). Open it in a browser; it needs no network.")


if __name__ == "__main__":
    main()
