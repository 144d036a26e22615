"""Everything a run tells: metrics, logs, progress, samples, TensorBoard, Weights & Biases and the curves."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from agents.console import Console, evaluation_text
from agents.curves import plot_curves
from agents.episodes import recorded, write_evaluation
from agents.metrics_file import MetricsFile, Row, series, summary_header, summary_line
from reason_envs.errors import ReasonEnvsError

TABLE = (
    ("reward", "reward", ".3f"),
    ("accuracy", "accuracy in training", ".1%"),
    ("eval/accuracy", "accuracy held out", ".1%"),
    ("eval/greedy_accuracy", "accuracy held out, greedy", ".1%"),
    ("frac_no_answer", "no answer", ".1%"),
    ("response_length", "response length", ".1f"),
    ("episode/generated_tokens", "tokens in the environment", ".1f"),
    ("entropy", "entropy", ".3f"),
    ("kl", "KL", ".5f"),
)
_log = logging.getLogger(__name__)
_OURS = ("agents", "reason_envs")


class Tracker:
    """Records a run in its folder and shows it; a context manager.

    It writes ``metrics.jsonl``, ``summary.log``, ``train.log``, ``curves.png`` and TensorBoard events. Metrics under
    ``time/`` and ``memory/`` depend on the machine; all others are the same from run to run.

    Args:
        output_dir: the run folder; made if absent.
        total_steps: training steps of the whole run.
        wandb: also log to Weights & Biases.
        tensorboard: also write TensorBoard events.
        log_every: steps between lines of ``summary.log`` and points of the curves (evaluations always count).
    """

    def __init__(
        self, output_dir: Path, total_steps: int, *, wandb: bool = False, tensorboard: bool = True, log_every: int = 1
    ) -> None:
        self.folder = Path(output_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = MetricsFile(self.folder / "metrics.jsonl")
        self._console = Console(total_steps)
        self._log_every = log_every
        self._resumed_at: int | None = None
        self._wandb = _start_wandb(self.folder) if wandb else None
        self._use_tensorboard = tensorboard
        self._writer: Any = None
        self._handlers: list[logging.Handler] = []
        self._levels: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Start ``train.log`` and the progress bar."""
        self._handlers = [_file_handler(self.folder / "train.log")]
        if not logging.getLogger().handlers:
            # Without a handler of its own the root logger would no longer show warnings once ours is there.
            self._handlers.append(_ConsoleHandler(self._console))
        for handler in self._handlers:
            logging.getLogger().addHandler(handler)
        for name in _OURS:
            self._levels[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(logging.INFO)
        self._console.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the curves, print the final table (unless an error ended the run) and close every file."""
        self._console.close()
        if error is not None:
            _log.error("The run ended with %s: %s", type(error).__name__, error)
        if self._file.rows:
            self._draw()
            if error is None:
                self._console.write(self.table())
                _log.info("Final table\n%s", self.table())
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if error is None else 1)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def resume(self, step: int) -> None:
        """Continue the folder's run from its checkpoint at ``step``; what was written after it is dropped."""
        self._file.keep_until(step)
        self._resumed_at = step
        evaluated = {row["step"] for row in self._file.rows if "eval/accuracy" in row}
        for later, path in recorded(self.folder).items():
            if later not in evaluated:
                path.unlink()
        lines = [summary_header(), *(summary_line(row) for row in self._shown_rows())]
        self._summary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._console.begin_at(step)
        _log.info("Resumed after step %d", step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record a training step: once a step, ``eval/`` figures of the same step included.

        Args:
            step: how many steps are done.
            metrics: numbers by name; ``memory/peak_mb`` is added.
        """
        row = self._record(step, {**metrics, "memory/peak_mb": peak_memory_mb()})
        self._console.step(step, row)
        self._show_evaluation(row)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record ``eval/`` figures that belong to no training step (before the first, after the last)."""
        strange = [name for name in metrics if not name.startswith("eval/")]
        if strange:
            raise ReasonEnvsError(f"{strange[0]!r} is no evaluation metric: names must begin with 'eval/'.")
        self._show_evaluation(self._record(step, metrics))

    def sample(self, step: int, text: str) -> None:
        """Show an example answer."""
        block = f"--- sample at step {step}\n{text}\n---"
        self._console.write(block)
        _log.info("%s", block)
        self._text("sample", step, [text])

    def episodes(self, evaluation: Mapping[str, Any], texts: Sequence[str]) -> None:
        """Keep the episodes of an evaluation in ``validate/``, and show some.

        Args:
            evaluation: what is kept (see ``agents.episodes``).
            texts: the ones that TensorBoard and Weights & Biases show.
        """
        write_evaluation(self.folder, evaluation)
        self._text("episodes", evaluation["step"], texts)

    def note(self, text: str) -> None:
        """Say something, on the console and in ``train.log``."""
        self._console.write(text)
        _log.info("%s", text)

    def table(self) -> str:
        """The run at a glance: means over its first and last tenth of steps, evaluations before and after."""
        lines = [f"{'':28}{'first':>10}{'last':>10}"]
        for metric, title, form in TABLE:
            _, values = series(self._file.rows, metric)
            if values:
                tenth = 1 if metric.startswith("eval/") else max(1, len(values) // 10)
                first, last = fmean(values[:tenth]), fmean(values[-tenth:])
                lines.append(f"{title:<28}{format(first, form):>10}{format(last, form):>10}")
        totals = {metric: series(self._file.rows, metric)[1] for metric in ("time/step", "tokens", "memory/peak_mb")}
        if all(totals.values()):
            lines.append(
                f"{len(totals['time/step'])} steps in {sum(totals['time/step']):,.0f} s, "
                f"{totals['tokens'][-1]:,.0f} tokens generated, peak memory {max(totals['memory/peak_mb']):,.0f} MB"
            )
        lines.append(f"Everything is in {self.folder}")
        return "\n".join(lines)

    @property
    def _summary(self) -> Path:
        return self.folder / "summary.log"

    @property
    def _tensorboard(self) -> Any:
        """The event writer, made at its first use, when it is known whether the run resumes."""
        if self._writer is None and self._use_tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if self._resumed_at is None else self._resumed_at + 1
            self._writer = SummaryWriter(str(self.folder), purge_step=purge)
        return self._writer

    def _record(self, step: int, metrics: Mapping[str, float]) -> Row:
        row = self._file.append(step, metrics)
        finite = {name: value for name, value in row.items() if name != "step" and value is not None}
        _log.info("step %d %s", step, " ".join(f"{name}={value:.6g}" for name, value in finite.items()))
        if self._is_shown(row):
            first = not self._summary.exists()
            with self._summary.open("a", encoding="utf-8") as file:
                file.write((summary_header() + "\n" if first else "") + summary_line(row) + "\n")
        if self._tensorboard is not None:
            for name, value in finite.items():
                self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **finite})
        return row

    def _text(self, name: str, step: int, texts: Sequence[str]) -> None:
        """Log texts under the same name to TensorBoard and to Weights & Biases."""
        if self._tensorboard is not None:
            self._tensorboard.add_text(name, "\n\n".join(map(_fenced, texts)), step)
        if self._wandb is not None:
            import wandb

            table = wandb.Table(columns=["step", "text"], data=[[step, text] for text in texts])
            self._wandb.log({"step": step, name: table})

    def _is_shown(self, row: Row) -> bool:
        return (row["step"] or 0) % self._log_every == 0 or "eval/accuracy" in row

    def _shown_rows(self) -> list[Row]:
        return [row for row in self._file.rows if self._is_shown(row)]

    def _show_evaluation(self, row: Row) -> None:
        text = evaluation_text(row)
        if text is not None:
            self._console.write(text)
            self._draw()

    def _draw(self) -> None:
        plot_curves(self._shown_rows(), self.folder / "curves.png", self.folder.name)


class Silence:
    """The tracker of a run's other processes: it records and shows nothing."""

    def __enter__(self) -> Self:
        """Start nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """End nothing."""

    def resume(self, step: int) -> None:
        """Ignore the step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Ignore the metrics."""

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Ignore the figures."""

    def sample(self, step: int, text: str) -> None:
        """Ignore the text."""

    def episodes(self, evaluation: Mapping[str, Any], texts: Sequence[str]) -> None:
        """Ignore the episodes."""

    def note(self, text: str) -> None:
        """Ignore the text."""


def peak_memory_mb() -> float:
    """Return the most memory used so far in MB: on the CUDA device where one is in use, else by this process."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


class _ConsoleHandler(logging.Handler):
    """Prints warnings without breaking the progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.write(self.format(record))


def _file_handler(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    return handler


def _fenced(text: str) -> str:
    """Write a text as a block of Markdown that nothing in it can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _start_wandb(folder: Path) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ReasonEnvsError('wandb=true needs Weights & Biases: pip install "reason-envs[wandb]".') from error
    from omegaconf import OmegaConf

    path = folder / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    # The id follows from the folder, so that a resumed run continues its own curves.
    identity = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()
    run = wandb.init(
        project=config.get("wandb_project") or "reason-envs",
        name=config.get("wandb_run_name") or folder.name,
        id=identity,
        resume="allow",
        dir=str(folder),
        config=config,
    )
    run.define_metric("*", step_metric="step")
    return run
