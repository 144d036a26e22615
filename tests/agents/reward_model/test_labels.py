import asyncio
from dataclasses import replace
from random import Random

import pytest
from scripted_engine import ScriptedEngine

from agents.reward_model.labels import LabelledSolution, SamplingConfig, append_labels, label_problems, read_labels
from agents.reward_model.train import arithmetic_agreement
from benchmarks.embedded_models.base import demonstrations as demo
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.tasks import Task

TASK = Task("one", "What is seven?", "7")
FIRST_STEPS = ("good", "bad", "half", "\\boxed{7}", "\\boxed{8}")


def script(request, seed):
    """Return a random first step, then an answer: 7 after ``good``, 8 after ``bad``, sometimes 7 after ``half``."""
    if not isinstance(request.prompt[0], int):
        return FIRST_STEPS[seed % len(FIRST_STEPS)] + "\n"
    step = "".join(map(chr, request.prompt)).removeprefix(TASK.question).strip()
    is_rollout = not request.sampling.stop
    right = step == "good" or (step == "half" and is_rollout and seed % 2)
    return "\\boxed{7}" if right else "\\boxed{8}"


def labels_of(labels, tasks=(TASK,), engine=None, **options):
    engine = engine or ScriptedEngine(script)
    found = asyncio.run(label_problems(engine, tasks, SamplingConfig(labels=labels, solutions=40, **options), seed=0))
    return {s.steps[0]: s for s in found}


def test_label_problems_supports_three_ways_of_labelling():
    hard, soft, solution = (labels_of(name, rollouts=64) for name in ("hard", "soft", "solution"))
    assert set(hard) == set(soft) == set(FIRST_STEPS)
    assert {k: s.labels for k, s in hard.items()} == {
        "good": (1, 1), "bad": (0, 0), "half": (1, 0), "\\boxed{7}": (1,), "\\boxed{8}": (0,),
    }  # fmt: skip
    assert {k: s.labels for k, s in solution.items()} == {
        "good": (1, 1), "bad": (0, 0), "half": (0, 0), "\\boxed{7}": (1,), "\\boxed{8}": (0,),
    }  # fmt: skip
    assert (soft["good"].labels, soft["bad"].labels) == ((1, 1), (0, 0))
    assert soft["half"].labels[0] == pytest.approx(0.5, abs=0.2)
    assert soft["half"].labels[1] == 0
    assert hard["half"] == LabelledSolution("one", TASK.question, ("half", "\\boxed{8}"), (1.0, 0.0), False)


def test_hard_labels_stop_at_the_first_success_and_soft_labels_do_not():
    engines = {name: ScriptedEngine(script) for name in ("hard", "soft", "solution")}
    for name, engine in engines.items():
        labels_of(name, engine=engine, rollouts=4)
    solutions = engines["solution"].batcher.requests
    # A sampled solution already succeeded after `good`; `bad` and `half` are completed until one is right.
    assert engines["soft"].batcher.requests - solutions == 3 * 4
    assert 4 + 1 <= engines["hard"].batcher.requests - solutions <= 4 + 4
    assert engines["solution"].batcher.calls == 2  # all first steps, all second ones


class CacheEngine(ScriptedEngine):
    """Keeps the tokens of a path as its cache, and records from which cache each request continues."""

    def __init__(self, script):
        super().__init__(script)
        self.continued = []

    def generate_batch(self, requests):
        self.continued += [(request.prompt, request.prefix_cache) for request in requests]
        return [
            [replace(each, prefix_cache=[*each.prompt_ids, *each.token_ids] * request.keep_prefix) for each in answers]
            for request, answers in zip(requests, super().generate_batch(requests), strict=True)
        ]


def test_steps_and_rollouts_continue_from_the_kept_states_of_their_paths():
    engine = CacheEngine(script)
    labels_of("soft", engine=engine, rollouts=4)
    later = [(prompt, cache) for prompt, cache in engine.continued if isinstance(prompt[0], int)]
    assert len(later) > 12
    assert all(cache == prompt for prompt, cache in later)
    assert all(cache is None for prompt, cache in engine.continued if not isinstance(prompt[0], int))


def test_labels_of_a_problem_do_not_depend_on_other_problems():
    other = Task("two", "What is eight?", "8")
    alone = labels_of("hard", rollouts=2)
    both = asyncio.run(
        label_problems(
            ScriptedEngine(script), [other, TASK], SamplingConfig(labels="hard", solutions=40, rollouts=2), seed=0
        )
    )
    assert {s.steps[0]: s for s in both if s.task_id == "one"} == alone


def test_label_problems_names_invalid_options_and_engines():
    with pytest.raises(ReasonEnvsError, match="returns the token ids"):
        labels_of("hard", engine=ScriptedEngine(""))
    with pytest.raises(ReasonEnvsError, match=r"labels='hart' is unknown\. Did you mean 'hard'"):
        SamplingConfig(labels="hart")
    with pytest.raises(ReasonEnvsError, match="rollouts=0 must be at least 1"):
        SamplingConfig(rollouts=0)


def test_read_labels_returns_what_was_written(tmp_path):
    solutions = list(labels_of("soft", rollouts=2).values())
    append_labels(tmp_path / "train.jsonl", solutions)
    assert read_labels(tmp_path / "train.jsonl") == solutions
    with pytest.raises(ReasonEnvsError, match="no file of labelled solutions"):
        read_labels(tmp_path / "test.jsonl")


@pytest.mark.parametrize("line", ["{", "[]", "5", '{"task_id": "t"}', '{"steps": 1, "labels": 2}'])
def test_read_labels_names_a_damaged_line(tmp_path, line):
    append_labels(tmp_path / "train.jsonl", list(labels_of("soft", rollouts=2).values())[:1])
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ReasonEnvsError, match=r"Line 2 of .*train.jsonl is not a labelled solution"):
        read_labels(tmp_path / "train.jsonl")


def test_arithmetic_agreement_counts_steps_up_to_the_first_mistake():
    def solution(steps, labels):
        return LabelledSolution("t", "1 + 2 + 3 =", steps, labels, correct=False)

    right = solution(("1 + 2 = 3", "3 + 3 = 6", "\\boxed{6}"), (1, 1, 1))
    slipped = solution(("1 + 2 = 4", "4 + 3 = 7", "\\boxed{7}"), (0, 0, 0))  # steps after the mistake do not count
    mislabelled = solution(("1 + 2 = 4", "4 + 3 = 7"), (1, 0))
    assert arithmetic_agreement([right, slipped]) == {"checked_steps": 3, "agreement": 1.0}
    assert arithmetic_agreement([mislabelled]) == {"checked_steps": 2, "agreement": 0.0}


def test_labels_of_the_embedded_generator_agree_with_the_sums():
    """Every step of a sum is checked again: its terms and its arithmetic."""
    rng = Random(5)
    expressions = [demo.chain_sum_expression(rng) for _ in range(12)]
    answers = [str(demo.running_sums(e)[1]) for e in expressions]
    tasks = [Task(e, demo.QUESTION.format(expression=e), a) for e, a in zip(expressions, answers, strict=True)]
    engine = make_engine("transformers", device="cpu")
    config = SamplingConfig(solutions=8, rollouts=4)
    solutions = asyncio.run(label_problems(engine, tasks, config, derive_seed(0, "labels")))
    agrees = [a == bool(b) for s in solutions for a, b in zip(truth(s), s.labels, strict=True)]
    assert len(agrees) > 100
    assert sum(agrees) / len(agrees) > 0.95
    assert {0.0, 1.0} == {label for s in solutions for label in s.labels if len(s.steps) > 1}


def truth(solution):
    """Return whether each step is right and follows right steps; the last step is right if the answer is."""
    due, _ = demo.running_sums(solution.task_id)
    verdicts = []
    for i, step in enumerate(solution.steps):
        right = solution.correct if i == len(solution.steps) - 1 else i < len(due) and step == due[i]
        verdicts.append(right and all(verdicts))
    return verdicts


@pytest.mark.parametrize("text", ["again\n", "x" * 64])
def test_label_problems_leaves_out_unfinished_solutions(text, caplog):
    engine = ScriptedEngine(lambda request, seed: text)
    assert labels_of("hard", engine=engine, max_depth=3, rollouts=2) == {}
    assert "1 of 1 solutions were cut and are left out: increase max_step_tokens or max_depth." in caplog.text


def test_label_problems_warns_once_when_few_steps_have_a_label(caplog):
    labels_of("solution", engine=ScriptedEngine("so \\boxed{8}"))
    assert caplog.text.count("0 % of the steps are labelled right: choose easier or harder problems.") == 1
    labels_of("solution", engine=ScriptedEngine(["so \\boxed{8}", "so \\boxed{7}"]))
    assert caplog.text.count("labelled right") == 1
