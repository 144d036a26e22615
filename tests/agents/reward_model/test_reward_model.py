import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scripted_engine import ScriptedEngine

from agents.algorithms.suited_rate import suited_rate
from agents.reward_model.fine_tuning import balanced, encode_examples, fine_tune, step_loss
from agents.reward_model.labels import LabelledSolution, append_labels, label_problems
from agents.reward_model.train import (
    PARTS,
    RewardModelConfig,
    choose_problems,
    labelled_solutions,
    train_reward_model,
)
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.loading import load_model, load_tokenizer
from reason_envs.reward_models import StepScoreRequest, make_reward_model
from reason_envs.reward_models.transformers import TransformersStepRewardModel
from reason_envs.tasks import Task
from reason_envs.tasks.task_list import ListTaskSet


def solution(number, *labels):
    """Return a solution whose steps contain their labels."""
    steps = tuple(f"{'yes' if label else 'no'} {number} {i}" for i, label in enumerate(labels))
    return LabelledSolution(f"t{number}", f"Problem {number}", steps, labels, correct=bool(labels[-1]))


def solutions(count, first=0):
    kinds = [(1.0, 1.0), (1.0, 0.0), (0.0,)]
    return [solution(first + i, *kinds[i % 3]) for i in range(count)]


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    for part, rows in zip(PARTS, (solutions(120), solutions(30, 200), solutions(30, 300)), strict=True):
        append_labels(folder / f"{part}.jsonl", rows)
    return str(folder)


@pytest.fixture
def config(labels, tiny_model, tmp_path):
    return RewardModelConfig(
        output_dir=str(tmp_path / "model"),
        labels_from=labels,
        model=tiny_model,
        device="cpu",
        learning_rate=1e-3,
        epochs=4,
        batch_size=8,
    )


class TestTraining:
    def test_train_reward_model_learns_the_labels(self, config, tmp_path):
        folder = train_reward_model(config)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["test"]["auc"] > 0.95
        assert metrics["test"]["f1"] > 0.9
        assert metrics["labels"]["solutions"] == 120
        assert metrics["labels"]["right_share"] == pytest.approx(3 / 5)
        model = make_reward_model("transformers", model=str(folder), device="cpu")
        scores = asyncio.run(model.score(StepScoreRequest("Problem 999", ("yes 999 0", "no 999 1")))).scores
        assert scores[0] > 0.8 > 0.2 > scores[1]
        card = (folder / "README.md").read_text()
        assert f"| ROC AUC, all steps | {metrics['test']['auc']:.4f} |" in card
        assert "* learning_rate: 0.001" in card
        assert "and the labelled solutions in" not in card

    def test_card_names_further_labels(self, config, tmp_path):
        further = tmp_path / "judged.jsonl"
        append_labels(further, solutions(12, 500))
        folder = train_reward_model(replace(config, epochs=1, further_labels=str(further)))
        assert "and the labelled solutions in `judged.jsonl`" in (folder / "README.md").read_text()

    def test_fine_tune_with_the_same_seed_gives_the_same_model(self, config, tmp_path):
        config.epochs = 1
        weights = {}
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            folder = tmp_path / name
            state = torch.random.get_rng_state()
            fine_tune(config, solutions(24), seed, folder)
            assert torch.equal(state, torch.random.get_rng_state())  # the global generator is unchanged
            weights[name] = (folder / "model.safetensors").read_bytes()
        assert weights["a"] == weights["b"] != weights["c"]

    def test_fine_tune_merges_lora(self, config, tmp_path):
        fine_tune(replace(config, lora_rank=4, learning_rate=5e-3), solutions(60), 0, tmp_path / "lora")
        assert not list((tmp_path / "lora").glob("adapter*"))
        model = make_reward_model("transformers", model=str(tmp_path / "lora"), device="cpu")
        scores = asyncio.run(model.score(StepScoreRequest("Problem 999", ("yes 999 0", "no 999 1")))).scores
        assert scores[0] > scores[1]

    def test_train_reward_model_refuses_a_folder_with_a_model(self, config, tiny_model):
        with pytest.raises(ReasonEnvsError, match="contains a model already"):
            train_reward_model(replace(config, output_dir=tiny_model))

    @pytest.mark.parametrize(("label", "message"), [(1.0, "labelled right.*choose harder"), (0.0, "wrong.*easier")])
    def test_train_reward_model_refuses_labels_of_one_class(self, config, tmp_path, label, message):
        rows = [solution(i, label) for i in range(8)]
        append = Path(config.labels_from)
        for part in PARTS:
            (append / f"{part}.jsonl").unlink()
            append_labels(append / f"{part}.jsonl", rows)
        with pytest.raises(ReasonEnvsError, match=message):
            train_reward_model(config)

    def test_train_reward_model_names_the_labels_if_fine_tuning_fails(self, config, monkeypatch):
        def out_of_memory(*_):
            raise torch.OutOfMemoryError("no memory")

        monkeypatch.setattr("agents.reward_model.fine_tuning.fine_tune", out_of_memory)
        with pytest.raises(ReasonEnvsError, match=f"no memory.*labels_from={re.escape(config.labels_from)}"):
            train_reward_model(config)

    def test_train_reward_model_does_not_overwrite_labels(self, config, labels):
        with pytest.raises(ReasonEnvsError, match=f"labels_from={re.escape(labels)}"):
            train_reward_model(replace(config, output_dir=str(Path(labels).parent), labels_from=None))

    @pytest.mark.parametrize(("model", "rank"), [("tiny", 0), ("tiny", 4), ("embedded", 0)])
    def test_fine_tune_without_a_rate_takes_one_that_suits_the_model(self, config, tiny_model, tmp_path, model, rank):
        chosen = replace(config, learning_rate=None, epochs=1, lora_rank=rank)
        chosen = chosen if model == "tiny" else replace(chosen, model=model)
        rate = fine_tune(chosen, solutions(8), 0, tmp_path / "m")
        if model == "embedded":
            assert rate == 1e-3
        else:
            size = sum(p.numel() for p in classifier(tiny_model).parameters())
            assert rate == pytest.approx(suited_rate(size, lora=rank > 0), rel=0.05)

    def test_config_validates_its_options(self):
        with pytest.raises(ReasonEnvsError, match="epochs=0 must be at least 1"):
            RewardModelConfig(epochs=0)
        with pytest.raises(ReasonEnvsError, match="test_problems=0 must be at least 1"):
            RewardModelConfig(test_problems=0)


class TestExamples:
    def test_step_loss_is_the_cross_entropy_at_the_ends_of_steps(self, tiny_model):
        model = classifier(tiny_model)
        tokenizer = load_tokenizer(tiny_model)
        rows = [solution(1, 1.0, 0.25), solution(22222, 0.0)]
        examples = encode_examples(tokenizer, model, rows)
        expected = []
        for row, example in zip(rows, examples, strict=True):
            log_probs = model(input_ids=torch.tensor([example.token_ids])).logits[0].log_softmax(-1)
            for end, label in zip(example.ends, row.labels, strict=True):
                expected.append(-(label * log_probs[end, 1] + (1 - label) * log_probs[end, 0]))
        loss = step_loss(model, examples, tokenizer.pad_token_id)
        assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-5)

    def test_training_and_scoring_read_the_same_tokens(self, tiny_model, config, tmp_path):
        fine_tune(replace(config, epochs=1), solutions(8), 0, tmp_path / "m")
        scorer = TransformersStepRewardModel(model=str(tmp_path / "m"), device="cpu")
        (example,) = encode_examples(scorer.tokenizer, scorer.reader.model, [solution(5, 1.0, 0.0)])
        right = scorer.reader.model(input_ids=torch.tensor([example.token_ids])).logits[0].softmax(-1)[:, 1]
        row = solution(5, 1.0, 0.0)
        scores = asyncio.run(scorer.score(StepScoreRequest(row.question, row.steps))).scores
        assert scores == pytest.approx([right[end].item() for end in example.ends], abs=1e-6)

    def test_encode_examples_drops_labels_beyond_the_maximum_length(self, tiny_model):
        model, tokenizer = classifier(tiny_model), load_tokenizer(tiny_model)
        (example,) = encode_examples(tokenizer, model, [solution(5, *[1.0] * 200)])
        assert len(example.token_ids) == 512
        assert 0 < len(example.ends) == len(example.labels) < 200
        assert max(example.ends) < 512

    def test_balanced_thins_out_the_most_frequent_kind(self):
        kinds = {"free": (1.0, 1.0), "later": (1.0, 0.0), "first": (0.0,)}
        counts = {"free": 5, "later": 3, "first": 40}
        rows = [solution(i, *kinds[name]) for name, count in counts.items() for i in range(count)]
        kept = balanced(rows, seed=0)
        found = {name: sum(row.labels == kinds[name] for row in kept) for name in kinds}
        assert found == {"free": 5, "later": 3, "first": 5}
        assert balanced(rows, seed=0) == kept != balanced(rows, seed=1)
        assert len(balanced(rows[:5], seed=0)) == 5


class TestPhaseOne:
    def test_labels_are_written_as_they_are_made(self, tmp_path, monkeypatch):
        """An interruption while the part to train on is labelled leaves the other parts and its first problems."""
        monkeypatch.setattr("agents.reward_model.train.GROUP", 2)
        engine = ClosingEngine()
        config = RewardModelConfig(engine=engine, tasks=problems("train"), eval_set=problems("test"), **SMALL)
        whole = labelled_solutions(config, tmp_path / "whole")
        done = []

        async def interrupted(*arguments, **options):
            if len(done) == 4:
                raise KeyboardInterrupt
            done.append(await label_problems(*arguments, **options))
            return done[-1]

        monkeypatch.setattr("agents.reward_model.train.label_problems", interrupted)
        with pytest.raises(KeyboardInterrupt):
            labelled_solutions(config, tmp_path / "cut")
        kept = labelled_solutions(replace(config, labels_from=str(tmp_path / "cut")), tmp_path / "unused")
        assert (kept["test"], kept["validation"]) == (whole["test"], whole["validation"])
        assert 0 < len(kept["train"]) < len(whole["train"])
        assert kept["train"] == whole["train"][: len(kept["train"])]

    def test_labelled_solutions_closes_only_a_generator_that_it_built(self, tmp_path, monkeypatch):
        engine = ClosingEngine()
        config = RewardModelConfig(engine=engine, tasks=problems("train"), eval_set=problems("test"), **SMALL)
        parts = labelled_solutions(config, tmp_path / "labels")
        assert not engine.closed
        monkeypatch.setattr("agents.reward_model.train.make_engine", lambda spec: engine)
        assert labelled_solutions(replace(config, engine="transformers"), tmp_path / "again") == parts
        assert engine.closed
        read_back = labelled_solutions(replace(config, labels_from=str(tmp_path / "labels")), tmp_path / "unused")
        assert read_back == parts
        assert {part: len({s.task_id for s in rows}) for part, rows in parts.items()} == {
            "train": 4,
            "validation": 2,
            "test": 3,
        }

    def test_choose_problems_draws_disjoint_parts(self):
        parts = choose_problems(RewardModelConfig(problems=50, validation_problems=20, test_problems=30))
        questions = [task.question for tasks in parts.values() for task in tasks]
        assert [len(parts[part]) for part in PARTS] == [50, 20, 30]
        assert len(set(questions)) == 100

    def test_choose_problems_names_missing_problems(self):
        with pytest.raises(ReasonEnvsError, match=r"9 different problems, but 40 are needed"):
            choose_problems(
                RewardModelConfig(
                    tasks=problems("train"), eval_set=problems("test"), problems=20, validation_problems=20
                )
            )

    def test_choose_problems_refuses_problems_that_are_not_held_out(self):
        with pytest.raises(ReasonEnvsError, match="set eval_set to held-out problems"):
            choose_problems(RewardModelConfig(tasks=problems("train"), problems=2, validation_problems=2))

    def test_choose_problems_refuses_to_evaluate_on_the_file_that_it_trains_on(self, tmp_path):
        file = tmp_path / "a.jsonl"
        file.write_text("".join(f'{{"question": "q{i}", "answer": "1"}}\n' for i in range(60)))
        sizes = {"problems": 9, "validation_problems": 9, "test_problems": 3}
        with pytest.raises(ReasonEnvsError, match=r"tasks.holdout=0.2 for a single file"):
            choose_problems(RewardModelConfig(tasks={"name": "json", "path": str(file)}, **sizes))
        parts = choose_problems(RewardModelConfig(tasks={"name": "json", "path": str(file), "holdout": 0.2}, **sizes))
        assert [len(parts[part]) for part in PARTS] == [9, 9, 3]


SMALL = {"problems": 4, "validation_problems": 2, "test_problems": 3, "solutions": 2, "rollouts": 1}


class ClosingEngine(ScriptedEngine):
    def __init__(self):
        super().__init__(["good\n", "\\boxed{7}"])
        self.closed = False

    def close(self):
        self.closed = True


def problems(split):
    return ListTaskSet("sevens", split, [Task(f"{split}{i}", f"{split} {i}?", "7") for i in range(9)])


def classifier(folder):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_model(
            folder,
            device=torch.device("cpu"),
            dtype=torch.float32,
            auto_class="AutoModelForTokenClassification",
            num_labels=2,
        )
