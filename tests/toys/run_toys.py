"""Small runs for the tests of training and evaluation."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import json

import torch
from safetensors.torch import load_file

from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.folder import check_start
from agents.training.resolve import resolve
from agents.training.trainer import Trainer

OPTIONS = (
    "env.tasks={name: chain_sum, max_samples: 20}",
    "policy.max_tokens=12",
    "env.reward.name=random",
    "steps=4",
    "algo.tasks_per_step=2",
    "algo.samples_per_task=4",
    "algo.optimizer.learning_rate=1e-3",
    "eval_every=2",
    "eval_tasks=3",
    "save_every=2",
    "policy.device=cpu",
)
"""Options of a short run. A random model solves no sum, so its rewards are random."""
LORA = ("policy.lora_rank=4", "policy.lora_dropout=0.2", "algo.kl_coef=0.05")


def overrides(model, folder, *more):
    return [f"policy.model={model}", f"output_dir={folder}", *OPTIONS, *more]


@functools.cache
def _composed(*arguments):
    return compose_config(arguments)


def composed(arguments):
    """Return the configuration of a command line. Runs that differ in their folder only are composed once."""
    folders = [argument for argument in arguments if argument.startswith("output_dir=")]
    config = copy.deepcopy(_composed(*(argument for argument in arguments if argument not in folders)))
    return dataclasses.replace(config, output_dir=folders[-1].partition("=")[2]) if folders else config


def make_trainer(arguments, *, resuming=False):
    """Build what `agents.train` builds for a command line."""
    plan = resolve(composed(arguments))
    check_start(plan, resuming=resuming)
    return Trainer(build(plan), resuming=resuming)


def make_run(model, folder, *more, resuming=False):
    return make_trainer(overrides(model, folder, *more), resuming=resuming)


def train(trainer):
    return asyncio.run(trainer.train())


def rows(folder):
    """The metrics that do not depend on the machine."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(("time/", "memory/"))} for line in lines]


def final_weights(folder):
    (path,) = (folder / "policy_final").glob("*.safetensors")
    return load_file(path)


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def assert_same_run(ours, theirs):
    """Metrics and final weights are equal bit for bit."""
    assert rows(ours) == rows(theirs)
    a, b = final_weights(ours), final_weights(theirs)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
