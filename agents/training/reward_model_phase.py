"""Phase 1 of a search run: the step reward model, trained before the policy where the run asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents import distributed
from agents.config.schema import TrainConfig, changed, options
from agents.reward_model.train import RewardModelConfig, train_reward_model
from agents.training.folder import CONFIG_FILE
from reason_envs.errors import ReasonEnvsError
from reason_envs.reward_models.transformers import StepRewardModelConfig

FOLDER = "reward_model"
"""Where a run keeps the model that it trained."""
OF_THE_RUN = {
    **{name: name for name in ("output_dir", "seed", "eval_set", "engine")},
    **{name: f"env.{name}" for name in ("tasks", "max_depth", "max_step_tokens", "separator")},
    **{name: f"env.{name}" for name in ("system_prompt", "fallbacks")},
}
"""Options of the training that follow the run, and where they are set."""


@dataclass
class RunRewardModelConfig(StepRewardModelConfig):
    """Options of ``reward_model=transformers`` in a run."""

    path: str | None = None
    """Folder of a saved step reward model to use; nothing is trained then."""
    train: bool = False
    """Train one on the run's own problems and generator first, into ``<output_dir>/reward_model``."""
    training: RewardModelConfig = field(default_factory=RewardModelConfig)
    """How; its problems, generator and steps are the run's."""


def reward_model_options(config: TrainConfig, generator: Any, folder: Path) -> dict[str, Any]:
    """Return the options of the run's step reward model, training it first where that is asked for and not done.

    Args:
        config: the run's.
        generator: what writes the solutions to learn from: a name, or a mapping of its ``name`` and options.
        folder: the run's.
    """
    given = config.reward_model
    if not isinstance(given, RunRewardModelConfig):
        return options(given)
    own = {k: v for k, v in options(given).items() if k not in ("path", "train", "training")}
    if given.path is None and not given.train:
        return own
    if changed(given, "model"):
        raise ReasonEnvsError(
            f"reward_model.model={given.model!r} with reward_model.path={given.path} and train={given.train}: give one "
            "of them (reward_model.training.model is the model that training starts from)."
        )
    return {**own, "model": given.path or str(_trained(config, given, generator, folder / FOLDER))}


def _trained(config: TrainConfig, given: RunRewardModelConfig, generator: Any, folder: Path) -> Path:
    """The model in the run's folder, which is made now unless the run began with it."""
    if (folder.parent / CONFIG_FILE).exists():
        return folder
    if folder.exists():
        raise ReasonEnvsError(
            f"{folder} holds a model that no run began with. If it is whole (has metrics.json) use it by "
            f"reward_model.path={folder}; else delete that folder."
        )
    if distributed.size() > 1:
        raise ReasonEnvsError(
            "reward_model.train=true in several processes: train the model once with python -m agents.reward_model, "
            "then give its folder as reward_model.path."
        )
    for name, key in OF_THE_RUN.items():
        if changed(given.training, name):
            raise ReasonEnvsError(f"reward_model.training.{name} follows the run: set {key} instead.")
    followed = {name: getattr(config.env, name) for name, key in OF_THE_RUN.items() if key.startswith("env.")}
    device = given.training.device if changed(given.training, "device") else given.device
    run = {"output_dir": str(folder), "seed": config.seed, "eval_set": config.eval_set, "engine": generator}
    return train_reward_model(replace(given.training, **followed, **run, device=device))
