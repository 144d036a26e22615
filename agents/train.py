"""Train: ``python -m agents.train env=single_turn_math algo=grpo policy=language engine=transformers [key=value ...]``.

``resume=<run folder>`` continues a run exactly. ``--help`` lists everything.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from agents.command import report_errors
from agents.config import TrainConfig
from reason_envs.errors import ReasonEnvsError

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps large buffers instead of returning them to the kernel after every operation."""
WITH_RESUME = ("resume", "steps", "epochs", "max_minutes")


def main() -> None:
    """Run the command line."""
    _tune_allocator()
    import hydra
    from omegaconf import DictConfig, OmegaConf

    from transformers.utils import logging as transformers_logging

    from agents.config import CONF_DIR, register_schemas, typed

    transformers_logging.disable_progress_bar()
    register_schemas()

    @hydra.main(version_base=None, config_path=str(CONF_DIR), config_name="config")
    def hydra_main(raw: DictConfig) -> None:
        with report_errors():
            container: Any = OmegaConf.to_container(raw, resolve=True)
            train(typed(container))

    with report_errors():
        overrides = [a for a in sys.argv[1:] if not a.startswith("-")]
        if any(o.startswith("resume=") for o in overrides):
            resume(overrides)
            return
        if len(overrides) == len(sys.argv) - 1:
            _check_overrides(str(CONF_DIR), overrides)
    hydra_main()


def train(config: TrainConfig, *, resuming: bool = False) -> None:
    """Train by a typed configuration; exit with 128 + signal if one ended the run."""
    from agents.trainer import Trainer

    interrupted = asyncio.run(Trainer(config, resuming=resuming).train())
    if interrupted is not None:
        print(f"Continue with: python -m agents.train resume={config.output_dir}")
        raise SystemExit(128 + interrupted)


def resume(overrides: list[str]) -> None:
    """Continue a run with its own configuration; only the caps may change."""
    from agents.runs import read_config

    given = dict(o.split("=", 1) for o in overrides)
    foreign = sorted(given.keys() - set(WITH_RESUME))
    if foreign:
        raise ReasonEnvsError(
            f"resume= continues a run with its own configuration; {', '.join(foreign)} cannot be given with it (only "
            f"{', '.join(WITH_RESUME[1:])} can). For other options start a new run with init_from=<checkpoint folder>."
        )
    config = read_config(Path(given["resume"]))
    config.output_dir = given["resume"]
    for name, convert in (("steps", int), ("epochs", float), ("max_minutes", float)):
        if name in given:
            setattr(config, name, convert(given[name]))
    train(config, resuming=True)


def _check_overrides(conf_dir: str, overrides: list[str]) -> None:
    """Compose once beforehand, so that a wrong name gets a message with the valid ones."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    from agents.config import explain

    try:
        with initialize_config_dir(conf_dir, version_base=None):
            compose("config", overrides=overrides)
    except HydraException as error:
        raise explain(error) from error


def _tune_allocator() -> None:
    """Restart once with glibc's allocator thresholds raised (it reads them at start only): 1.7 times faster."""
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, "-m", "agents.train", *sys.argv[1:]], {**os.environ, **ALLOCATOR})


if __name__ == "__main__":
    main()
