"""Tasks from data sets of the Hugging Face hub, or from a local copy of such a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.files.formats import Fields, read_tasks, reader
from reason_envs.tasks.task_list import ListTaskSet, MissingSplitError, split_tasks
from reason_envs.validation import require


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
    holdout: float = 0.0,
    max_samples: int | None = None,
) -> ListTaskSet:
    """Data sets of the hub by name, or a local folder with files or with the output of ``save_to_disk``.

    Official train and test splits are kept. A data set with one split is used whole, for training or for an evaluation.

    Args:
        split: ``"train"`` or ``"test"``.
        path: name of the data set on the hub, or a local folder.
        config: configuration of the data set. ``None``: its default.
        hub_split: split of the data set for each of our splits, such as ``{"train": "train", "test": "validation"}``.
            ``None``: the splits of the same names, or the only one.
        format: how the answer is found: ``"plain"`` (in a field), ``"gsm8k"`` (after ``####``), ``"math"`` (in a field
            or else the last box of the solution), or a benchmark (``"hotpotqa"``, ``"drop"``, ``"humaneval"``,
            ``"mbpp"``).
        question_field: field of the question, or several fields that are joined by line breaks. ``None``: the first of
            question, problem, input.
        answer_field: field of the answer. ``None``: the first of ground_truth, answer, target, final_answer.
        solution_field: field of the worked solution. ``None``: solution.
        skip_missing: whether to leave out records without an answer, and count them in ``skipped``.
        holdout: share of a data set's only split that is for testing, by the hash of the question. 0: none.
        max_samples: maximum number of tasks; they are chosen by the hash of their question. ``None``: all.
    """
    loaded = load_hub(path, config)
    source, shared = choose_split(path, split, list(loaded), hub_split)
    records = ((f"{path} ({source}), row {row}", dict(record)) for row, record in enumerate(loaded[source]))
    read = reader(format, Fields(question_field, answer_field, solution_field))
    tasks, skipped = read_tasks(read, records, f"hub/{path}/{source}", skip_missing)
    return split_tasks(
        path, split, tasks, path, official=not shared, holdout=holdout, skipped=skipped, max_samples=max_samples
    )


def choose_split(
    path: str, split: Split, available: list[str], hub_split: Mapping[str, str] | None
) -> tuple[str, bool]:
    """Return the split of the data set to read, and whether the train and the test split both read it."""
    if hub_split is None:
        if {"train", "test"} <= set(available):
            return split, False
        if len(available) == 1:
            return available[0], True
        raise MissingSplitError(
            f"The data set {path} has the splits {', '.join(map(repr, available))}; choose two of them, such as "
            f"hub_split={{'train': {available[0]!r}, 'test': {available[-1]!r}}}."
        )
    if split not in hub_split:
        raise MissingSplitError(
            f"hub_split has no key {split!r}, only {', '.join(map(repr, hub_split))}. Add the split of {path} to use."
        )
    chosen = hub_split[split]
    if chosen not in available:
        raise OptionError(
            "hub_split", dict(hub_split), f"names no split of {path}; it has {', '.join(map(repr, available))}."
        )
    return chosen, list(hub_split.values()).count(chosen) > 1


def load_hub(path: str, config: str | None) -> Mapping[str, Any]:
    """Load every split of a data set of the hub or of a local copy, by name."""
    require(f"Loading the data set {path!r}", "data")
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
            f"Cannot load the data set {path!r}: the hub cannot be reached or has no such data set ({error}). Without "
            "a network, set path to a local copy: a folder with data files or with the output of save_to_disk. Or "
            "use the family 'json', 'gsm8k' or 'math' with path=FILE."
        ) from error
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise ReasonEnvsError(f"Cannot load the data set {path!r} (config {config!r}): {error}") from error
