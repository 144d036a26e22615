import json
from pathlib import Path
from typing import Any

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import make

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(prefix: str, count: int) -> Any:
    return datasets.Dataset.from_list(
        [{"question": f"{prefix} {i}", "answer": f"So <<1+1=2>>2.\n#### 1,00{i % 10}"} for i in range(count)]
    )


def test_hub_keeps_official_splits_of_a_saved_data_set(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": rows("a", 6), "test": rows("b", 3)}).save_to_disk(tmp_path / "saved")
    spec = {"name": "hub", "path": str(tmp_path / "saved"), "format": "gsm8k"}
    train, test = make(spec), make(spec, "test")
    assert [len(train), len(test)] == [6, 3]
    assert (test[2].question, test[2].answer, test[2].metadata) == ("b 2", "1002", {"solution": "So 2."})


def test_hub_splits_a_single_split_by_hash(tmp_path: Path) -> None:
    rows("a", 300).save_to_disk(tmp_path / "saved")
    spec = {"name": "hub", "path": str(tmp_path / "saved"), "format": "gsm8k", "holdout": 0.2}
    train, test = ({task.question for task in make(spec, split)} for split in ("train", "test"))
    assert len(train | test) == 300
    assert not train & test
    assert 30 < len(test) < 90


def test_hub_reads_a_folder_of_data_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("train", 4), ("test", 2)):
        lines = [json.dumps({"problem": f"{name} {i}", "solution": f"\\boxed{{{i}}}"}) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    spec = {"name": "hub", "path": str(folder), "format": "math"}
    assert [task.answer for task in make(spec)] == ["0", "1", "2", "3"]
    assert make(spec, "test")[1].question == "test 1"


def test_hub_split_chooses_splits(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": rows("a", 6), "validation": rows("b", 3)}).save_to_disk(tmp_path / "saved")
    spec = {"name": "hub", "path": str(tmp_path / "saved"), "format": "gsm8k"}
    with pytest.raises(ReasonEnvsError, match="has the splits 'train', 'validation'; choose two"):
        make(spec, "test")
    assert len(make({**spec, "hub_split": {"train": "train", "test": "validation"}}, "test")) == 3
    with pytest.raises(ReasonEnvsError, match=r"'dev'.* names no split of .*; it has 'train', 'validation'"):
        make({**spec, "hub_split": {"test": "dev"}}, "test")
    with pytest.raises(ReasonEnvsError, match="hub_split has no key 'train', only 'test'"):
        make({**spec, "hub_split": {"test": "validation"}}, "train")
    with pytest.raises(ReasonEnvsError, match="Unknown record format 'gsm'"):
        make({**spec, "format": "gsm", "hub_split": {"train": "train"}})


def test_hub_without_a_network_advises_a_local_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(path: str, config: str | None) -> None:
        raise ConnectionError(f"Couldn't reach {path!r} on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ReasonEnvsError, match=r"'some/set': the hub cannot be reached.*local copy"):
        make({"name": "hub", "path": "some/set"})
