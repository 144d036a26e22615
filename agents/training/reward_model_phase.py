"""Phase 1 of a search run: train the step reward model before the policy, if the run asks for it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents import distributed
from agents.config.schema import TrainConfig, changed, options
from agents.reward_model.config import RewardModelConfig, RunRewardModelConfig
from agents.reward_model.metrics import quality
from agents.reward_model.train import train_reward_model
from reason_envs.errors import OptionError, RunError

FOLDER = "reward_model"
"""Folder of the trained model, inside the run folder."""
FROM_RUN = {
    **{name: name for name in ("output_dir", "seed", "eval_set", "engine")},
    **{name: f"env.{name}" for name in ("tasks", "max_depth", "max_step_tokens", "separator")},
    **{name: f"env.{name}" for name in ("system_prompt", "fallbacks")},
}
"""Options of the training that take the run's value, and the run's option."""


def planned_training(config: TrainConfig, generator: Any) -> RewardModelConfig | None:
    """Return the training of the step reward model that has to come first; ``None`` if none has to.

    The generator, a name or a mapping with ``name`` and options, writes the solutions to learn from.

    Raises:
        OptionError: an option of the training contradicts the run.
    """
    own = config.reward_model
    if not isinstance(own, RunRewardModelConfig) or (own.path is None and not own.train):
        return None
    if changed(own, "model"):
        raise OptionError(
            "reward_model.model",
            own.model,
            f"contradicts reward_model.path={own.path} and reward_model.train={own.train}: give one of them. "
            "(reward_model.training.model is the model that the training starts from.)",
        )
    if own.path is not None:
        return None
    for name, key in FROM_RUN.items():
        if changed(own.training, name):
            raise OptionError(
                f"reward_model.training.{name}", getattr(own.training, name), f"follows the run: set {key} instead."
            )
    env = options(config.env)
    return replace(
        own.training,
        **{name: env[name] for name, key in FROM_RUN.items() if key.startswith("env.")},
        output_dir=str(Path(config.output_dir) / FOLDER),
        seed=config.seed,
        eval_set=config.eval_set,
        engine=generator,
        device=own.training.device if changed(own.training, "device") else own.device,
    )


def model_options(config: TrainConfig, training: RewardModelConfig | None) -> Mapping[str, Any]:
    """Return ``name`` and options of the run's step reward model: the trained one, a saved one or the named one."""
    own = config.reward_model
    found = {"name": own.name, **options(own)}
    if isinstance(own, RunRewardModelConfig):
        for name in ("path", "train", "training"):
            del found[name]
        found["model"] = own.path or (training.output_dir if training else own.model)
    return found


def train_first(training: RewardModelConfig) -> None:
    """Train the step reward model of a new run.

    Raises:
        RunError: several processes would train it, or its folder exists already.
    """
    folder = Path(training.output_dir)
    if folder.exists():
        raise RunError(
            f"{folder} exists, but its run never started. If the model is complete (it has metrics.json), use it with "
            f"reward_model.path={folder}; use labels alone with reward_model.training.labels_from={folder / 'labels'} "
            "and another output_dir; or delete the folder."
        )
    if distributed.size() > 1:
        raise RunError(
            "reward_model.train=true works in one process only: train the model once with python -m "
            "agents.reward_model, then give its folder as reward_model.path."
        )
    metrics = json.loads((train_reward_model(training) / "metrics.json").read_text())
    print(f"Step reward model in {folder}: {quality(metrics)}", flush=True)


def check_trained(training: RewardModelConfig | None) -> None:
    """Refuse to build a run whose step reward model is not trained yet."""
    if training is not None and not Path(training.output_dir).is_dir():
        raise RunError(
            f"reward_model.train=true, but {training.output_dir} does not exist: python -m agents.train trains the "
            "model first; elsewhere, give the folder of a trained model as reward_model.path."
        )
