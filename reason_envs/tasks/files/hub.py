"""Problems from the ``datasets`` hub, or from a local copy of such a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.files.formats import Fields, read_tasks
from reason_envs.tasks.task_list import ListTaskSet, MissingSplitError, by_hash, empty_split, first_samples


def hub(
    split: Split,
    *,
    path: str,
    config: str | None = None,
    hub_split: Mapping[str, str] | None = None,
    format: str = "plain",
    question_field: str | Sequence[str] | None = None,
    answer_field: str | None = None,
    solution_field: str | None = None,
    skip_missing: bool = False,
    max_samples: int | None = None,
) -> ListTaskSet:
    """Data sets of the hub by name, or a local folder (files, or what ``save_to_disk`` wrote).

    Official train and test splits are kept; a data set with one split only is divided by the hash of its questions.

    Args:
        split: ``"train"`` or ``"test"``.
        path: the data set's name on the hub, or a local folder.
        config: the data set's configuration, for those that have several.
        hub_split: which of the data set's splits stand for ours, such as ``{"train": "train", "test": "validation"}``;
            when both are the same one, it is divided by hash.
        format: how the answer is found: ``"plain"`` (a field), ``"gsm8k"`` (after ``####``) or ``"math"`` (a field,
            or else the last box of the solution).
        question_field: the question's field, or several that are joined by line breaks.
        answer_field: the answer's field.
        solution_field: the worked solution's field.
        skip_missing: leave records without an answer out and count them in ``skipped``.
        max_samples: at most so many problems, a sample that depends on the texts alone.
    """
    loaded = load_hub(path, config)
    source, shared = choose_split(path, split, list(loaded), hub_split)
    records = ((f"{path} ({source}), row {row}", dict(record)) for row, record in enumerate(loaded[source]))
    fields = Fields(question_field, answer_field, solution_field)
    tasks, skipped = read_tasks(format, fields, records, f"hub/{path}/{source}", skip_missing)
    if shared:
        tasks = by_hash(tasks, split)
    if not tasks:
        raise empty_split(path, split, skipped)
    return ListTaskSet(path, split, first_samples(tasks, max_samples), skipped)


def choose_split(
    path: str, split: Split, available: list[str], hub_split: Mapping[str, str] | None
) -> tuple[str, bool]:
    """Return the data set's split to read, and whether train and test share it."""
    if hub_split is None:
        if {"train", "test"} <= set(available):
            return split, False
        if len(available) == 1:
            return available[0], True
        raise MissingSplitError(
            f"{path} has the splits {', '.join(map(repr, available))}; say which are ours with "
            f"hub_split={{'train': {available[0]!r}, 'test': {available[-1]!r}}}."
        )
    if split not in hub_split:
        raise MissingSplitError(f"hub_split names no split of {path} for {split!r}; it has {', '.join(hub_split)}.")
    chosen = hub_split[split]
    if chosen not in available:
        raise ReasonEnvsError(f"{path} has no split {chosen!r}; it has {', '.join(map(repr, available))}.")
    return chosen, list(hub_split.values()).count(chosen) > 1


def load_hub(path: str, config: str | None) -> Mapping[str, Any]:
    """Load every split of a data set of the hub, or of a local copy of one."""
    import datasets

    folder = Path(path).expanduser()
    if (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(folder))
    if (folder / "state.json").is_file():
        return {"all": datasets.load_from_disk(str(folder))}
    try:
        return datasets.load_dataset(str(folder) if folder.is_dir() else path, config)
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise ReasonEnvsError(
            f"Cannot load the data set {path!r}: no hub could be reached, or it has no data set of that name "
            f"({error}). Without a network, use a local copy: path=<folder> for what save_to_disk wrote or a folder "
            "of data files, or the family 'json', 'gsm8k' or 'math' with path=<file>."
        ) from error
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise ReasonEnvsError(f"Cannot load the data set {path!r} (config {config!r}): {error}") from error
