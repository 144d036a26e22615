"""A training run from its configuration to its end."""

import os
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial

from agents.config.schema import TrainConfig
from reason_envs.errors import OptionError


def train(config: TrainConfig, *, resuming: bool = False, command: str | None = None) -> None:
    """Train a policy with a configuration from `agents.config.compose.compose_config`.

    With ``resuming``, ``config.output_dir`` holds the run to continue. ``command`` is the command line for the model
    card.

    Raises:
        ReasonEnvsError: the configuration is invalid, a part cannot be built, or the run cannot continue.
        SystemExit: a signal ended the run early; the status is 128 plus the signal's number.
    """
    from transformers.utils import logging as transformers_logging

    from agents import distributed
    from agents.training.build import build, connect
    from agents.training.folder import check_start, owning
    from agents.training.memory import check_room
    from agents.training.resolve import resolve
    from agents.training.reward_model_phase import train_first
    from agents.training.trainer import Trainer
    from reason_envs.adapters.loop import run_apart

    _check_trainable(config)
    if (learners := config.cluster.learner.gpus) > 1 and "RANK" not in os.environ:
        _train_with_others(config, resuming=resuming, command=command)
        return
    transformers_logging.disable_progress_bar()
    distributed.start()
    if learners not in (1, distributed.size()):
        raise OptionError("cluster.learner.gpus", learners, f"but {distributed.size()} processes run: leave it out.")
    plan = resolve(replace(config, output_dir=distributed.all_gather(config.output_dir)[0]))
    with owning(plan.folder) if distributed.rank() == 0 else nullcontext():
        check_start(plan, resuming=resuming)
        check_room(plan)
        cluster = connect(plan.config.cluster)
        if plan.reward_model_training is not None and not resuming:
            train_first(plan.reward_model_training)
        with closing(build(plan, cluster)) as run:
            trainer = Trainer(run, resuming=resuming, command=command)
            interrupted = run_apart(trainer.train(), stop=trainer.stop.request)
    if interrupted is not None and distributed.rank() == 0:
        print(f"Continue with: python -m agents.train resume={plan.folder}")
    distributed.stop()
    if interrupted is not None:
        raise SystemExit(128 + interrupted)


def _check_trainable(config: TrainConfig) -> None:
    from agents.policies.served import ServedPolicy, ServedPolicyConfig

    if isinstance(config.policy, ServedPolicyConfig):
        ServedPolicy.refuse()
    if config.resume is not None:
        raise OptionError("resume", config.resume, "continues a run with its configuration: call agents.train.resume.")


def _train_with_others(config: TrainConfig, *, resuming: bool, command: str | None) -> None:
    """Train as the first of several learners, which Ray starts."""
    from agents.training.build import connect

    cluster = connect(config.cluster)
    assert cluster is not None  # the options need an address
    with closing(cluster), cluster.learners(partial(train, resuming=resuming), config):
        train(config, resuming=resuming, command=command)
