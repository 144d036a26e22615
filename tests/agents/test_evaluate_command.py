"""``python -m agents.evaluate`` with the folder of a real run."""

import json
import math
import shutil

import pytest
import torch
from run_toys import LORA, make_run, train

from agents.evaluate import main
from agents.training.build import load_run
from reason_envs.envs.single_turn_math import SingleTurnMath

KINDS = {"full": (), "lora": LORA}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / request.param
    options = ("steps=2", "save_every=1", "eval_every=0", "algo.optimizer.learning_rate=1e-2")
    train(make_run(tiny_model, folder, *KINDS[request.param], *options))
    return folder


def evaluate(tmp_path, *arguments):
    """Run the command and return the contents of its file."""
    path = tmp_path / "new" / "result.json"
    main([*arguments, "tasks=3", "samples=2", f"output_file={path}"])
    return json.loads(path.read_text())


def responses(written):
    return [answer["responses"] for answer in written["answers"]]


def test_evaluate_takes_the_latest_checkpoint_another_one_or_the_first_weights(folder, tmp_path, capsys):
    latest = evaluate(tmp_path, f"run={folder}")
    shown = capsys.readouterr().out
    assert shown.startswith(f"{folder}: 3 problems of ")
    assert "accuracy" in shown
    assert "95 %" in shown
    assert "pass@2" in shown
    assert "tasks x samples 3 x 2" in shown
    assert latest["config"]["run"] == str(folder)
    assert latest["result"]["tasks"] == 3
    assert all(math.isfinite(value) for value in latest["result"].values() if value is not None)
    assert len(latest["answers"]) == 6
    assert latest["answers"][0].keys() == {"task", "question", "answer", "responses", "extracted", "correct"}
    last, first = (evaluate(tmp_path, f"checkpoint={folder}/checkpoints/step_{step}", "seed=0") for step in (2, 1))
    untrained = evaluate(tmp_path, f"run={folder}", "untrained=true")
    assert f"{folder} before training: 3 problems of " in capsys.readouterr().out
    assert responses(last) == responses(latest)
    assert responses(first) != responses(latest)
    assert responses(untrained) not in (responses(first), responses(latest))


def test_load_run_loads_the_trained_weights(folder):
    trained, untrained = load_run(str(folder)), load_run(str(folder), untrained=True)
    final = load_run(None, str(folder / "checkpoints" / "step_2"))
    ours, theirs, before = (run.policy.export_weights() for run in (trained, final, untrained))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not all(torch.equal(ours[name], before[name]) for name in ours)
    assert trained.engines[0].weights_digest() != untrained.engines[0].weights_digest()


def test_greedy_evaluation_does_not_depend_on_the_seed(folder, tmp_path):
    one, other = (evaluate(tmp_path, f"run={folder}", "temperature=0", f"seed={seed}") for seed in (1, 2))
    assert responses(one) == responses(other)
    assert one["result"]["pass_at_n"] == one["result"]["accuracy"]


def test_evaluate_names_what_is_missing(folder, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "checkpoints" / "step_2" / "policy.safetensors").unlink()
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    for arguments, expected in (
        ([f"run={damaged}"], "step_2 is incomplete: policy.safetensors is missing"),
        ([f"run={tmp_path / 'bare'}"], "holds no checkpoint"),
        ([f"checkpoint={folder}/checkpoints/step_7"], "step_7"),
        ([f"checkpoint={tmp_path}"], "is not a run folder"),
        ([f"run={folder}", f"output_file={folder}/config.yaml/x.json"], "output_file"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "tasks=1", "samples=1"])
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert expected in message


# --- without a run, and on other problems


def problems(path, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    records = ({"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(count))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_evaluate_takes_a_model_without_a_run(tiny_model, tmp_path, capsys):
    file = problems(tmp_path / "aime.jsonl", 5)
    model = (f"policy.model={tiny_model}", "policy.device=cpu", "policy.max_tokens=8")
    written = evaluate(tmp_path, *model, f"eval_set={{name: json, path: {file}}}", "temperature=0")
    assert (written["result"]["tasks"], len(written["answers"])) == (3, 6)
    assert f"{tiny_model}: 3 problems of json x 2" in capsys.readouterr().out
    assert written["overrides"][0] == f"policy.model={tiny_model}"
    again = evaluate(tmp_path, *model, f"env.tasks={{name: json, path: {file}}}", "temperature=0")
    assert responses(again) == responses(written)


def test_evaluate_takes_other_problems_and_another_engine_than_the_run(folder, tmp_path):
    file = problems(tmp_path / "mine.jsonl", 2)
    more = ("engine=transformers", "engine.max_batch_size=2", f"eval_set={{name: json, path: {file}}}")
    written = evaluate(tmp_path, f"run={folder}", *more)
    assert {answer["question"] for answer in written["answers"]} == {"What is 0 + 0?", "What is 1 + 1?"}


def test_evaluate_takes_several_benchmarks_and_keeps_the_others_if_one_fails(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REASON_ENVS_DATA", str(tmp_path))
    problems(tmp_path / "math500" / "test.jsonl", 4)
    problems(tmp_path / "amc23.jsonl", 2)
    (tmp_path / "aime24" / "test.jsonl").parent.mkdir()
    (tmp_path / "aime24" / "test.jsonl").write_text("{broken\n")
    (tmp_path / "mbpp.jsonl").write_text(
        json.dumps({"prompt": "Add one.", "code": "def f(x):\n    return x + 1", "test_list": ["assert f(1) == 2"]})
    )
    with pytest.raises(SystemExit) as ended:
        evaluate(tmp_path, f"run={folder}", "benchmarks=[math500,aime24,hotpotqa,amc23,mbpp]")
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert "aime24: not evaluated: " in shown.err
    assert "env=single_turn_math does not grade" in shown.err
    assert "aime24, hotpotqa could not be evaluated (see above); 3 others were" in shown.err
    assert "4 problems of math" not in shown.out  # tasks=3
    written = json.loads((tmp_path / "new" / "result.json").read_text())["benchmarks"]
    assert {name: entry.get("result", {}).get("tasks") for name, entry in written.items()} == {
        "math500": 3,
        "amc23": 2,
        "mbpp": 1,
        "aime24": None,
        "hotpotqa": None,
    }
    assert "error" in written["aime24"]
    assert written["mbpp"]["answers"][0]["question"].startswith("Add one.")


def test_evaluate_shows_examples_of_the_benchmarks_own_train_split(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("REASON_ENVS_DATA", str(tmp_path))
    for split, first in (("train", 0), ("test", 10)):
        rows = [{"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(first, first + 4)]
        problems(tmp_path / "gsm8k" / f"{split}.jsonl", 0).write_text("".join(json.dumps(r) + "\n" for r in rows))
    shown = []
    render = SingleTurnMath.render_messages
    monkeypatch.setattr(SingleTurnMath, "render_messages", lambda *a: shown.append(render(*a)) or shown[-1])
    model = (f"policy.model={tiny_model}", "policy.device=cpu", "policy.max_tokens=8", "env.examples=2")
    written = evaluate(tmp_path, *model, "benchmarks=[gsm8k]", "samples=1")["benchmarks"]["gsm8k"]
    assert {answer["question"] for answer in written["answers"]} <= {f"What is {n}?" for n in range(10, 14)}
    before = [m["content"] for m in shown[-1] if m["role"] == "assistant"]
    assert [text.partition("\n")[2] for text in before] == [f"\\boxed{{{text.split()[2][:-1]}}}" for text in before]
    assert len(before) == 2
    assert shown[-1][-1]["content"] in {answer["question"] for answer in written["answers"]}


def test_evaluate_writes_the_solutions_of_trees(tmp_path):
    tree = ("env=reason_tree", "env.max_depth=3", "env.max_nodes=5", "policy.device=cpu")
    written = evaluate(tmp_path, *tree, "eval_set={name: chain_sum, min_terms: 2, max_terms: 2}")
    answers = written["answers"]
    assert len(answers) == 6
    assert any(answer["extracted"] and answer["extracted"] in answer["solution"] for answer in answers)
