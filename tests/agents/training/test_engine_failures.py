"""An engine that fails during a run: the last complete step is saved, and the resumed run equals a complete one."""

import pytest
from run_toys import assert_same_run, checkpoints, make_run, rows, train

from agents.algorithms.grpo import GRPO
from agents.tracking.tracker import Tracker
from agents.training.evaluator import Evaluator
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.transformers.engine import TransformersEngine

OPTIONS = ("eval_every=0", "save_every=0")
ENGINE_DIED = "vLLM failed in generate: the process ended."


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(make_run(tiny_model, folder, *OPTIONS))
    return folder


@pytest.mark.parametrize("answers", [False, True], ids=["before it answers", "after it answered"])
def test_run_resumes_exactly_after_a_failed_generation(whole, tiny_model, tmp_path, monkeypatch, answers):
    folder, original, calls = tmp_path / "run", TransformersEngine.generate_batch, []

    def dying(engine, requests):
        if len(requests) < 8:  # the probes of the weight check
            return original(engine, requests)
        calls.append(len(requests))
        generations = original(engine, requests) if answers or len(calls) < 3 else None
        if len(calls) == 3:
            raise ReasonEnvsError(ENGINE_DIED)
        return generations

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "generate_batch", dying)
        with pytest.raises(ReasonEnvsError, match=ENGINE_DIED):
            train(make_run(tiny_model, folder, *OPTIONS))
    assert calls == [8, 8, 8]
    assert checkpoints(folder) == ["step_0", "step_2"]
    assert [row["step"] for row in rows(folder)] == [1, 2]
    assert ENGINE_DIED in (folder / "train.log").read_text()
    train(make_run(tiny_model, folder, *OPTIONS, resuming=True))
    assert_same_run(folder, whole)
    tokens = [row["tokens"] for row in rows(folder) if "tokens" in row]
    assert tokens == [row["tokens"] for row in rows(whole) if "tokens" in row]


def test_run_resumes_exactly_after_a_failed_weight_transfer(whole, tiny_model, tmp_path, monkeypatch):
    folder, original = tmp_path / "run", TransformersEngine.load_weights

    def dying(engine, source, version):
        if version == 3:
            raise ReasonEnvsError(ENGINE_DIED)
        original(engine, source, version)

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "load_weights", dying)
        with pytest.raises(ReasonEnvsError, match=ENGINE_DIED):
            train(make_run(tiny_model, folder, *OPTIONS, "save_every=1"))
    assert checkpoints(folder)[-1] == "step_3"  # its update is done: only its metrics are missing
    assert [row["step"] for row in rows(folder)] == [1, 2]
    assert (
        f"Step 3 is saved. Continue with: python -m agents.train resume={folder}" in (folder / "train.log").read_text()
    )
    train(make_run(tiny_model, folder, *OPTIONS, resuming=True))
    assert_same_run(folder, whole)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("collect", OverflowError("int too large")),
        ("collect", KeyboardInterrupt()),
        ("log", KeyError("x")),
        ("log", SystemExit(3)),
        ("evaluate", RecursionError()),
        ("evaluate", KeyboardInterrupt()),
    ],
    ids=repr,
)
def test_run_saves_the_last_whole_step_after_any_exception(whole, tiny_model, tmp_path, monkeypatch, error, place):
    owner, name = {"collect": (GRPO, "collect"), "log": (Tracker, "log"), "evaluate": (Evaluator, "if_due")}[place]
    folder, original, calls = tmp_path / "run", getattr(owner, name), []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise error
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(type(error)):
            train(make_run(tiny_model, folder, *OPTIONS))
    step = 2 if place == "collect" else 3
    assert checkpoints(folder)[-1] == f"step_{step}"
    assert f"Step {step} is saved." in (folder / "train.log").read_text()
    train(make_run(tiny_model, folder, *OPTIONS, resuming=True))
    assert_same_run(folder, whole)
