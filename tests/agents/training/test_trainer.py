"""A run from its first step to its last: files, metrics, interruption, resumption and errors."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from run_toys import LORA, assert_same_run, checkpoints, final_weights, make_run, overrides, rows, train

from agents import train as command
from agents.algorithms.learner import Learner
from agents.algorithms.update import PolicyUpdate
from agents.tracking.metrics_file import MetricsFile
from agents.training.evaluator import Evaluator
from agents.training.saving import Saver
from reason_envs.envs.single_turn_math import SingleTurnMath
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.loading import load_model, load_tokenizer

KINDS = {"full": (), "lora": LORA}


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    """Uninterrupted runs of four steps, one of each kind."""
    folders = {}
    for kind, options in KINDS.items():
        folders[kind] = tmp_path_factory.mktemp("runs") / kind
        assert train(make_run(tiny_model, folders[kind], *options)) is None
    return folders


def interrupt_in(monkeypatch, owner, name, when, number=signal.SIGTERM):
    """Send this process a signal in the call of ``owner.name`` whose arguments ``when`` accepts."""
    original = getattr(owner, name)

    def interrupted(self, *args, **options):
        if when(self, *args, **options):
            os.kill(os.getpid(), number)
        return original(self, *args, **options)

    monkeypatch.setattr(owner, name, interrupted)


# --- a complete run


def test_run_writes_the_files_of_the_layout(whole):
    folder = whole["full"]
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {
        "config.yaml",
        "train.log",
        "summary.log",
        "metrics.jsonl",
        "curves.png",
        "run.json",
        "checkpoints",
        "policy_final",
        "validate",
    }
    assert {path.name for path in (folder / "validate").iterdir()} == {"step_0.json", "step_2.json", "step_4.json"}
    assert any(path.name.startswith("events.out.tfevents.") for path in folder.iterdir())
    assert checkpoints(folder) == ["step_2", "step_4"]
    assert {path.suffix for path in (folder / "checkpoints" / "step_4").iterdir()} == {".json", ".safetensors"}


def test_run_logs_the_documented_metrics(whole):
    for kind, folder in whole.items():
        table = rows(folder)
        assert [row["step"] for row in table] == [0, 1, 2, 3, 4, 4]
        names = {
            "reward",
            "accuracy",
            "loss",
            "entropy",
            "grad_norm",
            "frac_zero_std",
            "frac_no_answer",
            "tokens",
        }
        assert all(names <= row.keys() for row in table[1:5])
        evaluated = [i for i, row in enumerate(table) if "eval/accuracy" in row]
        assert evaluated == [0, 2, 5]
        assert "eval/greedy_accuracy" in table[0].keys() & table[5].keys()
        timed = json.loads((folder / "metrics.jsonl").read_text().splitlines()[1])
        assert {
            "time/step",
            "time/generate",
            "time/update",
            "time/tokens_per_second",
            "time/reread_tokens",
            "memory/peak_mb",
        } <= timed.keys()
        assert any(row["grad_norm"] > 0 for row in table[1:5]), kind
    assert any(row["kl"] > 0 for row in rows(whole["lora"])[1:5])


def test_final_policy_loads_and_differs_from_the_first(whole, tiny_model):
    untrained = load_model(tiny_model, device=torch.device("cpu"), dtype=torch.float32)
    trained = load_model(str(whole["full"] / "policy_final"), device=torch.device("cpu"), dtype=torch.float32)
    difference = [torch.equal(a, b) for a, b in zip(untrained.parameters(), trained.parameters(), strict=True)]
    assert not all(difference)
    assert len(load_tokenizer(str(whole["full"] / "policy_final"))) == len(load_tokenizer(tiny_model))


def test_final_adapter_loads_on_its_base_model(whole, tiny_model):
    from peft import PeftModel

    base = load_model(tiny_model, device=torch.device("cpu"), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, whole["lora"] / "policy_final")
    assert adapted.peft_config["default"].r == 4
    assert any(p.abs().sum() > 0 for n, p in adapted.named_parameters() if "lora_B" in n)


def test_run_ends_after_steps_or_epochs_whichever_is_first(tiny_model, tmp_path):
    problems = "env.tasks={name: chain_sum, max_samples: 6}"
    counts = []
    for number, caps in enumerate((("steps=null", "epochs=1"), ("steps=2", "epochs=9"), ("steps=9", "epochs=0.5"))):
        folder = tmp_path / str(number)
        train(make_run(tiny_model, folder, *caps, problems, "eval_every=0", "save_every=0"))
        counts.append(rows(folder)[-1]["step"])
    assert counts == [3, 2, 2]
    assert checkpoints(tmp_path / "0") == ["step_0", "step_3"]


def test_run_saves_and_stops_after_max_minutes(tiny_model, tmp_path):
    folder = tmp_path / "run"
    train(make_run(tiny_model, folder, "max_minutes=1e-9", "eval_every=0"))
    assert checkpoints(folder) == ["step_0"]
    train(make_run(tiny_model, folder, "eval_every=0", resuming=True))
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4]


def test_run_keeps_the_latest_and_the_best_checkpoint(tiny_model, tmp_path, monkeypatch):
    from agents.training import evaluator

    accuracies = iter([0.1, 0.1, 0.9, 0.9, 0.2, 0.3, 0.1, 0.1])
    original = evaluator.evaluate_policy

    async def evaluated(*args, **options):
        result, trajectories = await original(*args, **options)
        return replace(result, accuracy=next(accuracies)), trajectories

    monkeypatch.setattr(evaluator, "evaluate_policy", evaluated)
    train(make_run(tiny_model, tmp_path / "run", "steps=5", "eval_every=1", "save_every=4", "keep_last=1"))
    assert checkpoints(tmp_path / "run") == ["step_1", "step_5"]


def test_random_reward_varies_and_is_never_correct(whole):
    rewards = [row["reward"] for row in rows(whole["full"])[1:5]]
    assert all(-1 <= reward <= 1 for reward in rewards)
    assert len(set(rewards)) > 1
    assert all(row["accuracy"] == 0 for row in rows(whole["full"])[1:5])


def test_init_from_starts_from_a_checkpoint_which_is_the_reference(whole, tiny_model, tmp_path):
    for kind, options in KINDS.items():
        start = whole[kind] / "checkpoints" / "step_4"
        more = ["policy.lora_dropout=0"] if kind == "lora" else []
        more += ["algo.kl_coef=0.05", "steps=2", "eval_every=0", f"init_from={start}"]
        train(make_run(tiny_model, tmp_path / kind, *options, *more))
        first, second = rows(tmp_path / kind)
        assert first["kl"] == pytest.approx(0, abs=1e-7)
        assert second["kl"] > 1e-6


# --- interrupted and resumed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["generating", "updating"])
def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(
    kind, place, whole, tiny_model, tmp_path, monkeypatch
):
    trainer = make_run(tiny_model, tmp_path / "run", *KINDS[kind])
    with monkeypatch.context() as patch:
        if place == "generating":
            interrupt_in(patch, Learner, "collect", lambda self, step: step == 2)
        else:
            interrupt_in(patch, PolicyUpdate, "run", lambda self, _, step: step == 0, signal.SIGINT)
        stopped = train(trainer)
    step = {"generating": 3, "updating": 1}[place]
    assert stopped == {"generating": signal.SIGTERM, "updating": signal.SIGINT}[place]
    assert rows(tmp_path / "run")[-1]["step"] == step
    assert f"step_{step}" in checkpoints(tmp_path / "run")
    assert not (tmp_path / "run" / "policy_final").exists()
    assert train(make_run(tiny_model, tmp_path / "run", *KINDS[kind], resuming=True)) is None
    assert_same_run(tmp_path / "run", whole[kind])


def test_signal_ends_episodes_that_never_end(tiny_model, tmp_path, monkeypatch):
    async def endless(self, step):
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            await asyncio.sleep(0)

    monkeypatch.setattr(Learner, "collect", endless)
    monkeypatch.setattr(SingleTurnMath, "decisions_per_episode", None)
    assert train(make_run(tiny_model, tmp_path / "run", "eval_every=0")) == signal.SIGTERM
    assert checkpoints(tmp_path / "run") == ["step_0"]
    assert "Stopped by SIGTERM; step 0 is saved." in (tmp_path / "run" / "train.log").read_text()


def test_run_interrupted_in_an_evaluation_resumes_exactly(whole, tiny_model, tmp_path, monkeypatch):
    for number in (1, 3):
        folder, calls = tmp_path / str(number), iter(range(10))
        with monkeypatch.context() as patch:
            interrupt_in(patch, Evaluator, "_evaluate", lambda self, *_, calls=calls, n=number, **__: next(calls) == n)
            assert train(make_run(tiny_model, folder)) == signal.SIGTERM
        train(make_run(tiny_model, folder, resuming=True))
        assert_same_run(folder, whole["full"])


def test_killed_run_resumes_from_its_last_checkpoint(whole, tiny_model, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(PolicyUpdate, "run", dying_at(3, PolicyUpdate.run, KeyboardInterrupt()))
        patch.setattr(Saver, "keeping_progress", lambda *_: nullcontext())  # nothing runs after a kill
        with pytest.raises(KeyboardInterrupt):
            train(make_run(tiny_model, folder))
    assert checkpoints(folder) == ["step_0", "step_2"]
    assert rows(folder)[-1]["step"] == 3
    train(make_run(tiny_model, folder, resuming=True))
    assert_same_run(folder, whole["full"])


def dying_at(step, original, error):
    def run(self, samples, at):
        if at == step:
            raise error
        return original(self, samples, at)

    return run


def test_finished_run_can_continue_with_more_steps(whole, tiny_model, tmp_path):
    folder = tmp_path / "run"
    train(make_run(tiny_model, folder, "steps=2", "eval_every=0"))
    train(make_run(tiny_model, folder, "eval_every=0", resuming=True))
    ours, theirs = final_weights(folder), final_weights(whole["full"])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("stopped", [2, 4])
def test_resumed_run_remembers_its_warnings(tiny_model, tmp_path, stopped):
    train(make_run(tiny_model, tmp_path, f"steps={stopped}", "eval_every=0"))
    train(make_run(tiny_model, tmp_path, "steps=7", "eval_every=0", resuming=True))
    log = (tmp_path / "train.log").read_text()
    assert log.count("of the responses lack an answer") == 1
    assert log.index(": step 3 ") < log.index("of the responses lack an answer") < log.index(": step 4 ")


@pytest.mark.slow
def test_command_saves_on_a_signal_and_resumes(whole, tiny_model, tmp_path, monkeypatch, capsys):
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    arguments = overrides(tiny_model, "run", "steps=10000")
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.train", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("held-out after step 2"):
            process.send_signal(signal.SIGTERM)
            break
    shown, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: saving after this step" in errors
    assert "Traceback" not in errors
    assert "Continue with: python -m agents.train resume=run" in shown
    last = rows(tmp_path / "run")[-1]["step"]
    assert f"step_{last}" in checkpoints(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    command.resume(["resume=run", f"steps={last + 1}"])
    assert f"Continues after step {last}." in capsys.readouterr().out
    assert rows(tmp_path / "run")[1:3] == rows(whole["full"])[1:3]
    assert rows(tmp_path / "run")[-1]["step"] == last + 1
    assert final_weights(tmp_path / "run")


# --- errors


def fails(arguments, capsys, monkeypatch):
    """Run the command in this process and return its one message."""
    for name, value in command.ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    capsys.readouterr()  # output of earlier commands
    with pytest.raises(SystemExit) as ended:
        command.main()
    errors = capsys.readouterr().err
    assert ended.value.code == 2
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    return errors


@pytest.fixture
def unloaded(monkeypatch):
    """Fail if a model is loaded."""
    from agents.policies import language

    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(language, "load_model", load)


def test_wrong_data_is_an_error_before_the_model_loads(tiny_model, tmp_path, capsys, monkeypatch, unloaded):
    (tmp_path / "bad.jsonl").write_text('{"question": "1 + 1", "answer": "2"}\n{"question": oops}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "answerless.jsonl").write_text('{"question": "1 + 1"}\n')
    for name, expected in (
        ("absent.jsonl", "does not exist"),
        ("bad.jsonl", "bad.jsonl, line 2, cannot be used (JSONDecodeError"),
        ("empty.jsonl", "has no records"),
        ("answerless.jsonl", "line 1"),
    ):
        tasks = f"env.tasks={{name: json, path: {tmp_path / name}}}"
        assert expected in fails(overrides(tiny_model, tmp_path / "run", tasks), capsys, monkeypatch)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("policy.model=./nowhere", "this folder does not exist"),
        ("env.tasks=chain_sums", "Did you mean 'chain_sum'"),
        ("env.reward.name=maths", "Did you mean 'math'"),
        ("policy.precision=float8", "policy.precision='float8' is unknown"),
        ("engine.max_batch_size=0", "engine.max_batch_size=0 must be at least 1"),
        ("policy.temperature=0", "must be above 0"),
        ("log_every=0", "log_every=0 must be at least 1"),
        ("steps=null", "give at least one of them"),
    ],
)
def test_wrong_options_are_errors_before_the_model_loads(
    override, expected, tiny_model, tmp_path, capsys, monkeypatch, unloaded
):
    monkeypatch.chdir(tmp_path)
    assert expected in fails([*overrides(tiny_model, "run"), override], capsys, monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_run_never_overwrites_the_folder_of_another_run(whole, tiny_model, capsys, monkeypatch, unloaded):
    before = rows(whole["full"])
    message = fails(overrides(tiny_model, whole["full"]), capsys, monkeypatch)
    assert f"resume={whole['full']}" in message
    assert rows(whole["full"]) == before


def test_folder_without_a_training_step_says_that_nothing_is_lost(whole, tiny_model, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step_0").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    message = fails(overrides(tiny_model, folder), capsys, monkeypatch)
    assert (
        f"resume={folder}, choose another output_dir, or delete the folder. No training step of it is saved" in message
    )
    assert "No training step" not in fails(overrides(tiny_model, whole["full"]), capsys, monkeypatch)


def test_resume_names_each_mistake(whole, tmp_path, capsys, monkeypatch, unloaded):
    for arguments, expected in (
        ([f"resume={tmp_path}"], "is not a run folder: config.yaml is missing"),
        ([f"resume={whole['full']}", "seed=1", "algo.kl_coef=1"], "algo.kl_coef, seed cannot be given with it"),
        ([f"resume={whole['full']}", "steps=x"], "could not be converted to Integer"),
        ([f"resume={whole['full']}", "steps"], "'steps' is not of the form name=value"),
        ([f"resume={whole['full']}", "steps=0"], "above 0"),
        ([f"resume={whole['full']}", "--cfg", "job"], "Unknown flag '--cfg': options are written key=value"),
    ):
        assert expected in fails(arguments, capsys, monkeypatch)
    (tmp_path / "config.yaml").write_text((whole["full"] / "config.yaml").read_text())
    assert "holds no checkpoint" in fails([f"resume={tmp_path}"], capsys, monkeypatch)


def test_resume_names_a_missing_file_of_a_checkpoint(tiny_model, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    train(make_run(tiny_model, folder, "steps=1", "eval_every=0"))
    (folder / "checkpoints" / "step_1" / "optimizer.safetensors").unlink()
    message = fails([f"resume={folder}", "steps=2"], capsys, monkeypatch)
    assert "step_1 is incomplete: optimizer.safetensors is missing" in message


def nan_after_three_updates(self, inputs, config, original=Learner.loss):
    loss, metrics = original(self, inputs, config)
    return loss * float("nan") if self.optimizer.steps == 3 else loss, metrics


def test_run_with_an_infinite_loss_keeps_the_last_step(whole, tiny_model, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "loss", nan_after_three_updates)
        message = fails(overrides(tiny_model, folder), capsys, patch)
    assert "The loss is nan at step 3" in message
    assert checkpoints(folder) == ["step_2", "step_3"]
    assert "The loss is nan" in (folder / "train.log").read_text()
    train(make_run(tiny_model, folder, resuming=True))
    assert_same_run(folder, whole["full"])


def test_run_never_saves_an_incomplete_step(tiny_model, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(Learner, "loss", nan_after_three_updates)
    with pytest.raises(ReasonEnvsError, match="nan"):
        train(make_run(tiny_model, folder, "algo.minibatch_size=4", "save_every=1", "eval_every=0"))
    assert checkpoints(folder) == ["step_0", "step_1"]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("what", ["checkpoint", "metrics", "final"])
def test_run_on_a_full_disk_keeps_the_last_checkpoint(what, tiny_model, tmp_path, capsys, monkeypatch):
    from agents.training import checkpoint

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        if what == "final":
            patch.setattr("agents.policies.language.LanguagePolicy.save_pretrained", full_disk)
        elif what == "metrics":
            original = MetricsFile.append
            patch.setattr(MetricsFile, "append", lambda *args: full_disk() if args[1] == 3 else original(*args))
        else:
            original = checkpoint.save_file
            patch.setattr(
                checkpoint, "save_file", lambda t, path: full_disk() if "step_4" in str(path) else original(t, path)
            )
        message = fails(overrides(tiny_model, folder, "eval_every=0"), capsys, patch)
    assert "No space left on device" in message
    assert (
        checkpoints(folder)
        == {"final": ["step_2", "step_4"], "checkpoint": ["step_0", "step_2"], "metrics": ["step_2", "step_3"]}[what]
    )
    train(make_run(tiny_model, folder, "eval_every=0", resuming=True))
    assert rows(folder)[-1]["step"] == 4
    assert final_weights(folder)


@pytest.mark.parametrize(
    ("target", "phase"),
    [
        ("agents.training.build._build", "loading the model"),
        ("agents.algorithms.learner.Learner.update", "updating"),
        ("agents.algorithms.grpo.GRPO.collect", "generating"),
        ("agents.training.evaluator.evaluate_policy", "evaluating"),
    ],
)
def test_out_of_gpu_memory_error_names_phase_sizes_and_fix(target, phase, tiny_model, tmp_path, monkeypatch, capsys):
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")

    monkeypatch.setattr(target, out_of_memory)
    message = fails(overrides(tiny_model, tmp_path / "run"), capsys, monkeypatch)
    assert f"Out of GPU memory while {phase}" in message
    for part in ("policy.max_tokens=12", "engine.max_batch_size=256", "2.00 GiB"):
        assert part in message
    assert "policy.lora_rank=16" in message
    assert message.count("\n") == 1


def test_out_of_memory_error_on_the_cpu_names_the_phase(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("agents.algorithms.learner.Learner.update", lambda *_: torch.empty(1 << 60))
    message = fails(overrides(tiny_model, tmp_path / "run"), capsys, monkeypatch)
    assert "Out of memory while updating (policy.model=" in message
    assert "can't allocate memory" in message or "you tried to allocate" in message


@pytest.mark.parametrize(
    ("holdout", "line"),
    [
        ("0.5", " problems of json, 1 steps; held out: 1"),
        (
            "0",
            "on 20 problems of json, 1 steps; held out: none, because all problems are trained on (",
        ),
    ],
)
def test_the_first_line_says_what_is_held_out(tiny_model, tmp_path, capsys, holdout, line):
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps({"question": f"{n} + 1", "answer": n + 1}) + "\n" for n in range(20)))
    tasks = f"env.tasks={{name: json, path: {file}, holdout: {holdout}}}"
    train(make_run(tiny_model, tmp_path / "run", tasks, "steps=1"))
    assert line in capsys.readouterr().out
    evaluated = any("eval/accuracy" in row for row in rows(tmp_path / "run"))
    assert evaluated == (holdout == "0.5")


def test_overlong_prompts_are_an_error_or_are_counted_and_left_out(tiny_model, tmp_path, capsys, monkeypatch):
    problems = [{"question": "1 + " * n + "1", "answer": str(n + 1)} for n in (1, 2, 3, 30)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(p) + "\n" for p in problems))
    (tmp_path / "test.jsonl").write_text(json.dumps(problems[0]) + "\n")
    options = [f"env.tasks={{name: json, path: {tmp_path}}}", "policy.max_prompt_tokens=60", "steps=1"]
    message = fails(overrides(tiny_model, tmp_path / "a", *options), capsys, monkeypatch)
    assert "1 of 4 prompts are longer than 60 tokens" in message
    assert "policy.overlong_prompts=filter" in message
    trainer = make_run(tiny_model, tmp_path / "b", *options, "policy.overlong_prompts=filter")
    train(trainer)
    assert [task.answer for task in trainer.run.train_tasks] == ["2", "3", "4"]
    assert "3 problems of json (left out: 1 with a prompt of more than 60 tokens)" in capsys.readouterr().out
    hopeless = [*options, "policy.overlong_prompts=filter", "policy.max_prompt_tokens=2"]
    assert "4 of 4 prompts are longer" in fails(overrides(tiny_model, tmp_path / "c", *hopeless), capsys, monkeypatch)


def test_run_that_cannot_start_leaves_no_folder(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    for _ in range(2):
        with pytest.raises(ReasonEnvsError, match=r"reason-envs\[wandb\]"):
            train(make_run(tiny_model, tmp_path / "run", "wandb=true"))
    train(make_run(tiny_model, tmp_path / "run", "steps=1", "eval_every=0"))
