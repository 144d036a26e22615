"""Held-out evaluation: metrics, confidence intervals, files and the errors of the command."""

import asyncio
import json

import numpy as np
import pytest
from language_toys import make_decision, make_policy, problems, single_turn

from agents.evaluate import EvaluateConfig, main, write_result
from agents.evaluation.evaluate_policy import Evaluation, evaluate_policy, format_result, summarise
from agents.evaluation.intervals import bootstrap_interval, first_tasks, share_interval
from agents.trajectory import Trajectory
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine


def episode(correct, *, reward=0.0, tokens=4, no_answer=False, task="t", extracted=None, failure=""):
    decisions = [] if failure else [make_decision(3, tokens, reward=reward)]
    metrics = {"correct": float(correct), "no_answer": float(no_answer)}
    facts = {} if extracted is None else {"extracted": extracted}
    return Trajectory(task, "e", decisions, True, False, metrics, facts=facts, failure=failure)


# --- metrics


def test_summarise_computes_every_metric():
    rows = [(1, 1), (1, 0), (0, 0), (0, 0)]
    episodes = [episode(c, reward=c - 0.5, tokens=2 + 2 * c) for row in rows for c in row]
    episodes[-1].metrics["no_answer"] = 1.0
    result = summarise(episodes, samples=2, seed=0)
    assert (result.tasks, result.samples) == (4, 2)
    assert result.accuracy == pytest.approx(3 / 8)
    assert result.pass_at_n == pytest.approx(2 / 4)
    assert result.reward == pytest.approx(3 / 8 - 0.5)
    assert result.mean_tokens == pytest.approx(2 + 2 * 3 / 8)
    assert result.frac_no_answer == pytest.approx(1 / 8)
    assert result.accuracy_low < result.accuracy < result.accuracy_high
    assert result.metrics()["eval/pass_at_n"] == 0.5
    assert "37.5%" in format_result(result)
    assert "pass@2" in format_result(result)


def test_summarise_lets_the_most_frequent_answer_vote():
    rows = [[(0, "3"), (1, "4"), (1, " 4 ")], [(1, "5"), (0, "6"), (0, "7")], [(0, "8"), (0, "8"), (1, "9")]]
    result = summarise([episode(c, extracted=a) for row in rows for c, a in row], samples=3, seed=0)
    assert (result.accuracy, result.pass_at_n) == (pytest.approx(4 / 9), 1.0)
    assert result.maj_at_n == pytest.approx(2 / 3)  # 4 of two, 5 as the first of a tie, 8 of two
    assert "maj@3" in format_result(result)
    unknown = summarise([episode(True)], samples=1, seed=0)
    assert unknown.maj_at_n is None
    assert "eval/maj_at_n" not in unknown.metrics()
    assert "maj@" not in format_result(unknown)


def test_summarise_leaves_out_what_an_engine_failed():
    failed = episode(False, failure="no server")
    rows = [[episode(True), failed], [episode(True), episode(False)], [failed, failed]]
    result = summarise([e for row in rows for e in row], samples=2, seed=0)
    assert (result.tasks, result.accuracy, result.pass_at_n) == (2, pytest.approx(2 / 3), 1.0)
    assert result.engine_failures == 0.5
    assert "engine failures   50.0%" in format_result(result)
    assert result.metrics()["eval/engine_failures"] == 0.5


def test_summarise_adds_up_turns_of_an_episode():
    one = episode(True, reward=1.0, tokens=2)
    one.decisions.append(make_decision(3, 5, reward=0.5))
    result = summarise([one], samples=1, seed=0)
    assert (result.reward, result.mean_tokens) == (1.5, 7.0)


def test_summarise_refuses_episodes_without_a_verdict():
    silent = episode(True, task="t7")
    silent.metrics.clear()
    with pytest.raises(ReasonEnvsError, match=r"task 't7' does not report whether it was correct"):
        summarise([episode(True), silent], samples=1, seed=0)


# --- intervals


def test_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval(np.full(9, 0.4), seed=3) == (pytest.approx(0.4), pytest.approx(0.4))


@pytest.mark.parametrize("count", [1, 14, 1000])
def test_share_interval_of_right_answers_alone_depends_on_their_number(count):
    low, high = share_interval(np.ones(count), seed=0)
    assert (low, high) == (pytest.approx(count / (count + 3.8416)), 1.0)  # Wilson (1927) at p = 1
    assert share_interval(np.zeros(count), seed=0) == (0.0, pytest.approx(1 - low))


def test_share_interval_of_other_shares_is_the_bootstrap_interval():
    values = np.array([0.0, 1.0, 1.0, 0.5])
    assert share_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert share_interval(np.full(9, 0.4), seed=3) == (pytest.approx(0.4), pytest.approx(0.4))


def test_bootstrap_interval_of_many_tasks_is_the_normal_interval():
    values = (np.arange(1000) % 10 < 3).astype(float)
    low, high = bootstrap_interval(values, seed=0)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.004)
    assert high == pytest.approx(0.3 + half, abs=0.004)


def test_bootstrap_interval_depends_on_the_seed():
    values = np.linspace(0, 1, 50)
    assert (
        bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    )


def test_bootstrap_interval_covers_the_true_mean():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(generator.binomial(4, 0.35, size=80) / 4, seed=trial)
        hits += low <= 0.35 <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_first_tasks_is_the_same_sample_at_every_call():
    tasks = problems(5)
    first = first_tasks(tasks, 3)
    assert first == first_tasks(tasks, 3) == first_tasks(tasks, 5)[:3]
    assert {task.id for task in first} <= {task.id for task in tasks}
    assert len(first_tasks(tasks, 9)) == 5


# --- playing


def texts(trajectories):
    return [t.decisions[0].choice.text for t in trajectories]


async def long_enough(response, task):
    return 1.0, {"correct": len(response) > 20, "no_answer": not response}


def test_evaluate_policy_plays_every_task_and_write_result_stores_it(tiny_model, tmp_path):
    policy = make_policy(tiny_model, max_tokens=4)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    tasks = list(problems(5))

    def run(seed, temperature=1.0):
        sampling = Sampling(6, temperature)
        work = evaluate_policy(
            single_turn(problems(5), long_enough), policy, tasks, samples=3, seed=seed, sampling=sampling
        )
        return asyncio.run(work)

    result, trajectories = run(0)
    assert policy.engine.batcher.calls == 1
    assert [t.task_id for t in trajectories] == [task.id for task in tasks for _ in range(3)]
    assert result.accuracy == pytest.approx(np.mean([len(t.decisions[0].choice.text) > 20 for t in trajectories]))
    assert 4 < result.mean_tokens <= 6  # the evaluation's own sampling, not the policy's
    assert 0 < result.accuracy < 1
    assert run(0)[0] == result
    assert texts(run(0)[1]) == texts(trajectories) != texts(run(1)[1])
    greedy, _ = run(0, temperature=0.0)
    assert greedy.pass_at_n == pytest.approx(greedy.accuracy)

    path = tmp_path / "new" / "result.json"
    write_result(path, EvaluateConfig(run="somewhere"), {"": Evaluation(result, tasks, trajectories)}, {})
    written = json.loads(path.read_text())
    assert written["result"]["accuracy"] == result.accuracy
    assert written["config"]["run"] == "somewhere"
    assert len(written["answers"]) == 15
    assert written["answers"][4]["question"] == tasks[1].question
    assert written["answers"][4]["responses"] == [trajectories[4].decisions[0].choice.text]


# --- the command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["samples"], "'samples' is not of the form name=value"),
        (["sample=3"], "Unknown option 'sample'. Did you mean 'samples'"),
        (["run=x", "samples=many"], "many"),
        ([], "run=<run folder> or checkpoint="),
        (["run=a", "checkpoint=b"], "Give either"),
        (["run=no/such/run"], "no/such/run"),
        (["run=x", "samples=0"], "samples=0"),
        (["run=x", "tasks=0"], "tasks=0"),
        (["run=x", "temperature=-1"], "temperature=-1"),
        (["run=x", "benchmarks=[gsm8]"], "Did you mean 'gsm8k'"),
    ],
)
def test_evaluate_prints_each_error_as_one_message(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_evaluate_help_lists_options(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "temperature: null" in capsys.readouterr().out
