"""Logging to TensorBoard and Weights & Biases. Both get the same metrics and texts under the same tags."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.tracking.metrics_file import SHOWN
from agents.tracking.run_record import read_record
from reason_envs.errors import ReasonEnvsError, printable
from reason_envs.validation import require


def tag(metric: str) -> str:
    """Return the tag of a metric, which begins with its group: ``loss/kl`` for ``kl``."""
    first = metric.partition("/")[0]
    return metric if first in SHOWN["groups"] else f"{'loss' if first in SHOWN['loss'] else 'rollout'}/{metric}"


class Dashboards:
    """Sends the metrics and texts of a run to the chosen dashboards, which write their files to the run folder.

    Raises:
        ReasonEnvsError: Weights & Biases is not installed or cannot start a run.
    """

    def __init__(self, folder: Path, *, wandb: bool) -> None:
        self._folder = folder
        self._wandb = _start_wandb(folder) if wandb else None
        self._writer: Any = None
        self._resumed_at: int | None = None

    def resume(self, step: int) -> None:
        """Continue after ``step``. TensorBoard hides the events of later steps."""
        self._resumed_at = step

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log finite numbers by the name of their metric."""
        metrics = {tag(name): value for name, value in metrics.items()}
        for name, value in metrics.items():
            self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **metrics})

    def texts(self, name: str, step: int, texts: Sequence[str]) -> None:
        """Log texts without formatting."""
        self._tensorboard.add_text(name, "\n\n".join(map(_fenced, texts)), step)
        if self._wandb is not None:
            import wandb

            table = wandb.Table(columns=["step", "text"], data=[[step, printable(text)] for text in texts])
            self._wandb.log({"step": step, name: table})

    def close(self, *, failed: bool) -> None:
        """Write buffered data and close both dashboards."""
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=int(failed))

    @property
    def _tensorboard(self) -> Any:
        """Event writer. It is created at its first use, because a resumed run must hide later events."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if self._resumed_at is None else self._resumed_at + 1
            self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        return self._writer


def _fenced(text: str) -> str:
    """Write a text as a code block of Markdown, with a fence longer than any in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{printable(text)}\n{fence}"


def _start_wandb(folder: Path) -> Any:
    require("wandb=true", "wandb")
    import wandb
    from omegaconf import OmegaConf

    path = folder / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    try:
        run = wandb.init(
            project=config.get("wandb_project") or "reason-envs",
            name=config.get("wandb_run_name") or folder.name,
            id=read_record(folder).get("id"),
            resume="allow",
            dir=str(folder),
            config=config,
        )
    except wandb.Error as error:
        raise ReasonEnvsError(
            f"wandb=true: Weights & Biases cannot start a run ({error}). Run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline to log to local files only."
        ) from error
    run.define_metric("*", step_metric="step")
    return run
