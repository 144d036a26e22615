"""A launcher that shards the model over processes is refused before anything is loaded."""

import sys

import pytest

from agents import train
from agents.distributed import SHARDED_MODELS


@pytest.mark.parametrize("variable", SHARDED_MODELS)
def test_sharding_is_an_error_before_the_model_loads(variable, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(variable, "true")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")  # the command does not restart itself
    monkeypatch.setattr("agents.training.build.build", None)
    monkeypatch.setattr(sys, "argv", ["train", f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(SystemExit) as exit_:
        train.main()
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert f"({variable}=true)" in error
    assert "set cluster.learner.shard=full" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
