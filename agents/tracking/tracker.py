"""All output of a run: metrics, logs, progress, sample responses, TensorBoard, Weights & Biases and curves."""

import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.tracking.console import Console, evaluation_text
from agents.tracking.dashboards import Dashboards
from agents.tracking.episode_records import recorded, write_evaluation
from agents.tracking.metrics_file import CANDIDATES, CHOSEN, MetricsFile, Row, final_table, summary_header, summary_line
from reason_envs.errors import printable, reading

_log = logging.getLogger(__name__)
_OURS = ("agents", "reason_envs")
DRAW_SECONDS = 10
"""Minimum seconds between two drawings of the curves; they are also drawn at the end."""


class Tracker:
    """Context manager that records a run in its folder and shows the progress on the console.

    It writes ``metrics.jsonl``, ``summary.log``, ``train.log``, ``curves.png`` and TensorBoard events. Metrics under
    ``time/`` and ``memory/`` depend on the machine. All other metrics depend only on the configuration and the seed.
    ``log_every`` is the number of steps between lines of ``summary.log`` and points of the curves; evaluations are
    always written.
    """

    def __init__(self, output_dir: Path, total_steps: int, *, wandb: bool = False, log_every: int = 1) -> None:
        self.folder = Path(output_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._summary = self.folder / "summary.log"
        self._file = MetricsFile(self.folder / "metrics.jsonl")
        self._console = Console(total_steps)
        self._log_every = log_every
        self._dashboards = Dashboards(self.folder, wandb=wandb)
        self._logging = ExitStack()
        self._drawn_at = time.monotonic()

    def __enter__(self) -> Self:
        """Open ``train.log`` and the progress bar."""
        handler: logging.Handler = logging.FileHandler(self.folder / "train.log", encoding="utf-8")
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        # Python shows warnings by default only while the root logger has no handler.
        missing = [] if logging.getLogger().handlers else [_ConsoleHandler(self._console)]
        for each in (handler, *missing):
            logging.getLogger().addHandler(each)
            self._logging.callback(each.close)
            self._logging.callback(logging.getLogger().removeHandler, each)
        for logger in map(logging.getLogger, _OURS):
            self._logging.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.INFO)
        self._console.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the curves, print the final table unless an error ended the run, and close all files."""
        self._console.close()
        if error is not None:
            # The console shows the error itself, so this line goes to train.log only.
            _log.error("The run ended with %s: %s", type(error).__name__, error, extra={"file_only": True})
        if self._file.rows:
            self._draw()
            if error is None:
                path = shlex.quote(str(self.folder))
                table = (
                    f"{final_table(self._file.rows)}\nAll files are in {self.folder}. Next:\n"
                    f"  python -m agents.report {path}\n  python -m agents.evaluate run={path}\n"
                    f"  tensorboard --logdir {path}"
                )
                self._console.write(table)
                _log.info("Final table\n%s", table)
        self._dashboards.close(failed=error is not None)
        self._logging.close()

    def resume(self, step: int, *, is_logged: bool = True) -> None:
        """Continue from the checkpoint at ``step``: delete later records, and its own if not ``is_logged``."""
        self._file.keep_until(step if is_logged else step - 0.5)
        self._dashboards.resume(step)
        evaluated = {row["step"] for row in self._file.rows if "eval/accuracy" in row}
        for later, path in recorded(self.folder).items():
            if later not in evaluated:
                path.unlink()
        lines = [summary_header(), *(summary_line(row) for row in self._shown_rows())]
        self._summary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._console.begin_at(step)
        known = {row["step"] for row in self._file.rows}
        if lost := [each for each in range(1, step + is_logged) if each not in known]:
            _log.warning("metrics.jsonl lacks %d steps up to step %d, such as %d", len(lost), step, lost[0])
        _log.info("Resumed after step %d", step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a finished training step, with the ``eval/`` metrics of this step. Call it once per step.

        ``memory/peak_mb`` is added.
        """
        row = self._record(step, {**metrics, "memory/peak_mb": peak_memory_mb()})
        self._console.step(step, row)
        if step == 1 and CANDIDATES in row:
            self.note(CHOSEN)
        self._show_evaluation(row)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record an evaluation, ``eval/`` metrics, outside a training step: before the first step or after the last."""
        self._show_evaluation(self._record(step, metrics))

    def sample(self, step: int, text: str) -> None:
        """Show a sample response."""
        self.note(f"--- sample at step {step}\n{text}\n---")
        self._dashboards.texts("sample", step, [text])

    def episodes(self, evaluation: Mapping[str, Any], texts: Sequence[str]) -> None:
        """Save the record of an evaluation in ``validate/``, and send transcripts of its episodes to the dashboards."""
        write_evaluation(self.folder, evaluation)
        self._dashboards.texts("episodes", evaluation["step"], texts)

    def status(self, text: str) -> None:
        """Show the current phase beside the progress bar of a terminal, such as ``evaluating``."""
        self._console.status(text)

    def note(self, text: str) -> None:
        """Write a line to the console and to ``train.log``."""
        self._console.write(text)
        _log.info("%s", text)

    def _record(self, step: int, metrics: Mapping[str, float]) -> Row:
        row = self._file.append(step, metrics)
        finite = {name: value for name, value in row.items() if name != "step" and value is not None}
        _log.info("step %d %s", step, " ".join(f"{name}={value:.6g}" for name, value in finite.items()))
        if self._is_shown(row):
            first = not self._summary.exists()
            with self._summary.open("a", encoding="utf-8") as file:
                file.write((summary_header() + "\n" if first else "") + summary_line(row) + "\n")
        self._dashboards.scalars(step, finite)
        return row

    def _is_shown(self, row: Row) -> bool:
        return (row["step"] or 0) % self._log_every == 0 or "eval/accuracy" in row

    def _shown_rows(self) -> list[Row]:
        return [row for row in self._file.rows if self._is_shown(row)]

    def _show_evaluation(self, row: Row) -> None:
        text = evaluation_text(row)
        if text is not None:
            self._console.write(text)
            if time.monotonic() - self._drawn_at >= DRAW_SECONDS:
                self._draw()
                self._drawn_at = time.monotonic()

    def _draw(self) -> None:
        from agents.tracking.curves import plot_curves  # loads matplotlib

        path = self.folder / "curves.png"
        with reading(path, "Restore or delete it."):
            plot_curves(self._shown_rows(), path, self.folder.name)


class NullTracker(nullcontext[None]):
    """Tracker that records and shows nothing. All processes of a distributed run use it, except the first."""

    def resume(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    log = evaluation = sample = episodes = status = note = resume


def peak_memory_mb() -> float:
    """Return the peak memory so far in MB: of the CUDA device in use, or else of this process (0 on Windows)."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


class _Formatter(logging.Formatter):
    """Shows control characters of messages and tracebacks as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _ConsoleHandler(logging.Handler):
    """Handler that prints warnings without breaking the progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
        self.addFilter(lambda record: "file_only" not in record.__dict__)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.write(self.format(record))
