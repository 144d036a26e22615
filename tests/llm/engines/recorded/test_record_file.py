"""Records on disk."""

import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.recorded.record_file import RecordFile

SOURCE = {"model": "m", "digest": "d"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "record.jsonl"


def fill(path, count=3, kind="generation"):
    record = RecordFile(path, kind, SOURCE)
    for i in range(count):
        record.add(str(i), {"number": i})
    record.close()
    return record


def lines(path):
    return path.read_text().splitlines()


def test_record_file_reads_added_entries(path):
    fill(path)
    record = RecordFile(path, "generation")
    assert (len(record), record["2"], record.source) == (3, {"number": 2}, SOURCE)
    assert "3" not in record
    assert json.loads(lines(path)[0]) == {"record": 1}


def test_record_file_keeps_the_first_entry_of_a_key(path):
    record = fill(path)
    record.add("1", {"number": 100})
    assert record["1"] == {"number": 1}
    assert len(lines(path)) == 5
    with path.open("a") as file:
        file.write('{"kind": "generation", "key": "1", "value": {"number": 100}}\n')
    assert RecordFile(path, "generation")["1"] == {"number": 1}


def test_record_file_holds_two_kinds(path):
    generations, scores = RecordFile(path, "generation", SOURCE), RecordFile(path, "step_scores", {"model": "r"})
    for i in range(3):
        generations.add(str(i), {"text": i})
        scores.add(str(i), {"score": i})
    again = RecordFile(path, "step_scores")
    assert (again["1"], again.source) == ({"score": 1}, {"model": "r"})
    assert (len(lines(path)), lines(path).count(lines(path)[0])) == (9, 1)


def test_record_file_refuses_another_source(path):
    fill(path)
    record = RecordFile(path, "generation", SOURCE)
    record.add("new", {})
    assert len(RecordFile(path, "generation")) == 4
    with pytest.raises(ReasonEnvsError, match=r"was made with .*'m'.*, but the model is now .*'other'"):
        RecordFile(path, "generation", {"model": "other", "digest": "d"})


def test_record_file_writes_entries_at_once(path):
    record = RecordFile(path, "generation", SOURCE)
    record.add("a", {"x": "é\n"})
    assert RecordFile(path, "generation")["a"] == {"x": "é\n"}
    record.close()
    record.add("b", {})
    assert len(RecordFile(path, "generation")) == 2


@given(cut=st.integers(1, 55))
def test_record_file_replaces_an_incomplete_last_line(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "record.jsonl"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    record = RecordFile(path, "generation", SOURCE)
    assert len(record) == 2
    record.add("2", {"number": 2})
    assert path.read_bytes() == whole


def test_record_file_warns_about_an_incomplete_last_line(path, caplog):
    fill(path)
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        RecordFile(path, "generation")
    assert f"{path}: the last line is incomplete and is ignored" in caplog.text


@pytest.mark.parametrize("broken", ["{", '{"kind": "generation", "key": "1"}', "[]", "", '{"record": 1}'])
def test_record_file_names_an_invalid_line(path, broken):
    fill(path)
    text = lines(path)
    path.write_text("\n".join([*text[:3], broken, *text[3:]]) + "\n")
    with pytest.raises(ReasonEnvsError, match=r"record\.jsonl: line 4 is not a line of a record"):
        RecordFile(path, "generation")


def test_record_file_refuses_files_that_are_not_records(path):
    with pytest.raises(ReasonEnvsError, match="does not exist"):
        RecordFile(path, "generation")
    path.parent.mkdir()
    path.write_text('{"question": "1 + 1"}\n')
    with pytest.raises(ReasonEnvsError, match="line 1 is not a line of a record"):
        RecordFile(path, "generation")
    path.write_text('{"record": 2}\n')
    with pytest.raises(ReasonEnvsError, match="has version 2, but this library reads version 1"):
        RecordFile(path, "generation")


def test_record_file_loads_quickly(path):
    """100,000 entries take about a second; the limit allows for a busy machine."""
    path.parent.mkdir()
    value = {"request": "0" * 16, "samples": [{"text": "4 + 5 = 9", "token_ids": [1] * 12, "log_probs": [-0.25] * 12}]}
    entries = (json.dumps({"kind": "generation", "key": f"{i}/1", "value": value}) for i in range(100_000))
    path.write_text('{"record": 1}\n' + "\n".join(entries) + "\n")
    start = time.process_time()
    assert len(RecordFile(path, "generation")) == 100_000
    assert time.process_time() - start < 5
