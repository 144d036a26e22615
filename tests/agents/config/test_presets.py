"""The preset of GRPO with LoRA matches its guide."""

import re
from pathlib import Path

import pytest
import yaml

from agents.config.compose import compose_config
from agents.training.resolve import total_steps
from reason_envs.tasks import make

ROOT = Path(__file__).resolve().parents[3]
GUIDE = yaml.load((ROOT / "tests" / "data" / "grpo_math_guide.yaml").read_text(), yaml.BaseLoader)
"""Table of hyper-parameters of the GRPO guide, unchanged, with all values as text."""
SAMPLES = 18_946
"""Number of problems in the data of the guide."""
FURTHER_KEYS = ("gradient_checkpointing", "fp16", "logging_steps", "question", "ground_truth", "model.path")
"""Keys that the guide mentions outside its table."""


@pytest.fixture(scope="module")
def preset():
    return compose_config(["+experiment=grpo_math_lora"])


def number(name):
    return float(GUIDE[name])


def test_table_has_the_values_of_the_guide():
    expected = {
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "num_return_sequences": 2,
        "reward_correct": 1,
        "reward_wrong": -1,
        "reward_no_answer": -0.5,
        "kl_coef": 0.05,
        "num_epochs": 3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "learning_rate": 5e-6,
        "max_new_tokens": 2048,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    assert {name: number(name) for name in GUIDE if name != "model_path"} == expected


def test_preset_trains_the_share_of_the_parameters_that_the_guide_names(preset):
    hidden, keys, layers, parameters = 1536, 256, 28, 1_543_714_304  # Qwen2.5-Math-1.5B
    outputs = {"q_proj": hidden, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
    trained = sum(preset.policy.lora_rank * (hidden + outputs[name]) for name in preset.policy.lora_target_modules)
    assert round(100 * layers * trained / parameters, 2) == 0.28


def test_preset_matches_guide(preset):
    ours = {
        "lora_r": preset.policy.lora_rank,
        "lora_alpha": preset.policy.lora_alpha,
        "lora_dropout": preset.policy.lora_dropout,
        "num_return_sequences": preset.algo.samples_per_task,
        "reward_correct": preset.env.reward.correct,
        "reward_wrong": preset.env.reward.wrong,
        "reward_no_answer": preset.env.reward.no_answer,
        "kl_coef": preset.algo.kl_coef,
        "num_epochs": preset.epochs,
        "per_device_train_batch_size": preset.algo.micro_batch_size,
        "learning_rate": preset.algo.optimizer.learning_rate,
        "max_new_tokens": preset.policy.max_tokens,
        "temperature": preset.policy.temperature,
        "top_p": preset.policy.top_p,
    }
    assert ours == {name: number(name) for name in ours}
    assert GUIDE.keys() - ours.keys() == {"model_path", "gradient_accumulation_steps"}
    assert preset.policy.model.startswith("./")
    assert preset.policy.gradient_checkpointing
    assert preset.log_every == 10
    assert preset.env.tasks["path"].endswith("first_round_final_gsm8k_math.json")
    assert (preset.env.tasks["question_field"], preset.env.tasks["answer_field"]) == ("question", "ground_truth")


def test_optimizer_step_has_the_effective_batch_of_the_guide(preset):
    responses = preset.algo.tasks_per_step * preset.algo.samples_per_task
    assert responses == number("per_device_train_batch_size") * number("gradient_accumulation_steps") == 16
    assert preset.algo.minibatch_size is None
    assert preset.algo.epochs_per_batch == 1
    assert preset.algo.micro_batch_tokens is None


def test_run_has_as_many_steps_as_the_guide(preset):
    epoch = SAMPLES / preset.algo.tasks_per_step
    assert epoch == pytest.approx(2_370, rel=2e-3)
    assert total_steps(preset, SAMPLES) == pytest.approx(7_110, rel=2e-3)


def test_data_format_of_the_guide_is_read(preset, tmp_path):
    path = tmp_path / "data.json"
    path.write_text('[{"question": "6 * 7?", "ground_truth": "42", "predicted_answer": "42", "correct": true}]')
    (task,) = make({**preset.env.tasks, "path": str(path)}, "train")
    assert (task.question, task.answer) == ("6 * 7?", "42")


def test_small_preset_differs_only_in_size_and_data(preset):
    small = compose_config(["+experiment=grpo_math_lora_test"])
    assert small.algo == preset.algo
    assert small.steps == 2
    assert small.policy.model == "embedded"
    for name in ("lora_rank", "lora_alpha", "lora_dropout", "temperature", "top_p", "gradient_checkpointing"):
        assert getattr(small.policy, name) == getattr(preset.policy, name)
    assert small.env.reward == preset.env.reward


def test_documentation_maps_every_key_of_the_guide():
    page = ROOT / "docs" / "coming_from" / "grpo_math.md"
    table = re.findall(r"^\| (.+?) \| (.+?) \|$", page.read_text(), re.MULTILINE)
    there = " ".join(left for left, _ in table)
    for name in [*GUIDE, *FURTHER_KEYS]:
        assert re.search(rf"\b{re.escape(name)}\b", there), name
