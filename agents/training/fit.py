"""Training from Python: `fit`, with the options, defaults and errors of ``python -m agents.train``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reason_envs.errors import OptionError
from reason_envs.resources import replace_file
from reason_envs.tasks.base import Task

if TYPE_CHECKING:
    import pandas

    from agents.evaluation.evaluate_policy import EvaluationResult

NESTED = ("placement", "cluster", "cluster.engine", "cluster.learner", "algo.optimizer", "reward_model.training")
"""Options outside the groups that are mappings of options."""


@dataclass(frozen=True)
class Result:
    """A finished run."""

    folder: Path
    """The run folder."""

    @property
    def metrics(self) -> pandas.DataFrame:
        """A row for each training step and evaluation, with the metrics as columns."""
        import pandas

        return pandas.read_json(self.folder / "metrics.jsonl", lines=True)

    @property
    def policy(self) -> Path:
        """Folder of the trained policy. For a language model, transformers and vLLM load it."""
        return self.folder / "policy_final"

    def evaluate(
        self, *, tasks: int = 1024, samples: int = 4, temperature: float | None = None, seed: int = 0
    ) -> EvaluationResult:
        """Evaluate the trained policy on held-out tasks.

        Args:
            tasks: maximum number of tasks.
            samples: episodes per task.
            temperature: sampling temperature; 0 is greedy decoding. ``None``: the temperature of the training.
            seed: seed of all random draws.
        """
        from agents.evaluation.evaluate_policy import evaluate_policy
        from agents.evaluation.intervals import first_tasks
        from agents.training.build import load_run
        from reason_envs.adapters.loop import run_apart

        with closing(load_run(str(self.folder))) as run:
            policy, chosen = run.policy, first_tasks(run.held_out(), tasks)
            sampling = policy.sampling if temperature is None else replace(policy.sampling, temperature=temperature)
            options: dict[str, Any] = {"samples": samples, "seed": seed, "sampling": sampling}
            return run_apart(evaluate_policy(run.environment, policy, chosen, **options))[0]

    def report(self, path: str | Path | None = None) -> Path:
        """Write the run's HTML page and return its path; ``None``: ``report.html`` in the run folder."""
        from agents.report import write_report

        output = Path(path) if path else self.folder / "report.html"
        write_report([self.folder], output)
        return output


def fit(
    *,
    env: str | Mapping[str, Any] = "single_turn_math",
    algo: str | Mapping[str, Any] | None = None,
    model: str | None = None,
    tasks: Any = None,
    reward: Any = None,
    steps: int | None = None,
    output_dir: str | Path | None = None,
    **options: Any,
) -> Result:
    """Train a policy. It also works in a thread, and in a notebook or other program with a running event loop.

    Args:
        env: name of an environment, or a mapping with ``name`` and its options.
        algo: name of an algorithm, or a mapping with ``name`` and its options. ``None``: the one that the environment
            recommends.
        model: sets ``policy.model``: a folder, a name on the Hugging Face hub, or an embedded model. ``None``: the one
            that the environment recommends.
        tasks: problems: a name, a mapping with ``name`` and options, or records with a question and an answer in a
            list, a ``datasets.Dataset``, a ``pandas.DataFrame`` or a ``TaskSet``. They are stored as ``tasks.jsonl`` in
            the run folder. ``None``: the environment's default.
        reward: reward of the environment: a name, a function ``(response, task) -> float``, a mapping with ``name`` (or
            function) and options, or a list of these, whose mappings can have a ``weight``. ``None``: the environment's
            default.
        steps: maximum number of training steps. ``None``: the default of ``python -m agents.train``.
        output_dir: run folder. ``None``: a new folder in ``runs``, named after the time.
        options: further options of ``python -m agents.train``. Mappings set options inside a group, such as
            ``policy={"lora_rank": 16}``.

    Raises:
        ReasonEnvsError: an option is invalid, or the run cannot go on. SystemExit: a signal ended the run early.
    """
    from agents.config.compose import compose_config
    from agents.training.start import train

    folder = Path(output_dir or time.strftime("runs/%Y%m%d-%H%M%S"))
    given = {"output_dir": str(folder), "env": env, "algo": algo, "policy.model": model, "steps": steps}
    given |= {"env.tasks": _stored(tasks, folder), "env.reward": _by_name(reward)}
    named = {key: value for key, value in given.items() if value is not None}
    train(compose_config(list(_overrides({**named, **options}))))
    return Result(folder)


def _stored(tasks: Any, folder: Path) -> Any:
    """Write records of problems to the run folder. Names and mappings stay as they are."""
    if tasks is None or isinstance(tasks, str | Mapping):
        return tasks
    records = tasks.to_dict("records") if hasattr(tasks, "iterrows") else tasks
    records = list(records) if isinstance(records, Iterable) else [records]
    records = [vars(record) if isinstance(record, Task) else record for record in records]
    if wrong := [record for record in records if not isinstance(record, Mapping)]:
        rule = (
            "must be a name, a mapping with 'name', a TaskSet, or a list or Dataset of mappings with a question and an "
            "answer."
        )
        raise OptionError("tasks", wrong[0], rule)
    path = folder / "tasks.jsonl"
    replace_file(path, "".join(json.dumps(dict(record), default=_plain) + "\n" for record in records))
    return {"name": "json", "path": str(path)}


def _plain(value: Any) -> Any:
    """Return an array or a date of a record as JSON can hold it."""
    for method in ("tolist", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise OptionError("tasks", value, "cannot be stored: use texts, numbers, lists, mappings, arrays and dates.")


def _by_name(reward: Any) -> Any:
    """Replace reward functions by their names. A function that cannot be imported is registered."""
    from reason_envs.rewards import register_reward
    from reason_envs.rewards.base import name_of

    if isinstance(reward, list | tuple):
        return [_by_name(part) for part in reward]
    if isinstance(reward, Mapping):
        return {**reward, "name": _by_name(reward.get("name"))} if callable(reward.get("name")) else reward
    if not callable(reward):
        return reward
    module, _, name = name_of(reward).rpartition(".")
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is reward:
        return f"{module}:{name}"
    register_reward(name, reward)
    return name


def _overrides(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield options as ``key=value``. A mapping with options of a group or of a part's own dataclass is spelled out."""
    from agents.config.schema import GROUPS

    for name, value in options.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key in (*GROUPS, *NESTED):
            if "name" in value:
                yield f"{key}={value['name']}"
            yield from _overrides({k: v for k, v in value.items() if k != "name"}, f"{key}.")
        elif key in GROUPS and not isinstance(value, str):
            raise OptionError(key, value, "must be a name, or a mapping with 'name' and options.")
        else:
            yield f"{key}={_written(value) if key not in GROUPS else value}"


def _written(value: Any) -> str:
    """Write a value in the grammar of overrides."""
    from agents.config.command_line import quoted

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return quoted(str(value))
