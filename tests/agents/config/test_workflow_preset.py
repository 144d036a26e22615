"""The preset of AFlow workflows matches the training guide."""

import re
from pathlib import Path

import pytest
import yaml

from agents.config.compose import compose_config
from agents.training.resolve import resolve
from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.executors import read_descriptions, read_models
from reason_envs.envs.workflow.operator_signatures import OPERATORS
from reason_envs.rewards.tiers import TIERS
from reason_envs.tasks import make
from reason_envs.tasks.mixture import RATIOS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = yaml.safe_load((ROOT / "tests" / "data" / "aflow_guide.yaml").read_text())
GUIDE = DOCUMENT["training"]
"""The file training.yaml of the guide, unchanged."""


@pytest.fixture(scope="module")
def preset():
    return compose_config(["+experiment=workflow_aflow"])


def test_policy_matches_guide(preset):
    policy, generation = preset.policy, GUIDE["generation_config"]
    assert policy.model == DOCUMENT["model"]
    assert policy.gradient_checkpointing == DOCUMENT["gradient_checkpointing"]
    assert (policy.dtype, policy.precision) == ("float16", "float16")
    assert not GUIDE["bf16"]
    assert GUIDE["use_lora"]
    for name in ("lora_rank", "lora_alpha", "lora_dropout"):
        assert getattr(policy, name) == GUIDE[name]
    assert policy.lora_target_modules == GUIDE["lora_target_modules"].split(",")
    for name in ("temperature", "max_tokens", "top_p", "top_k"):
        assert getattr(policy, name) == generation[name]
    assert resolve(preset).config.policy.device == f"cuda:{GUIDE['device_mapping'][0]}"


def test_training_matches_guide(preset):
    algo, optimizer = preset.algo, preset.algo.optimizer
    assert (preset.env.name, algo.name) == ("workflow", "grpo")
    assert preset.steps == GUIDE["max_steps"]
    assert algo.tasks_per_step == GUIDE["rollout_batch_size"]
    assert algo.samples_per_task == GUIDE["num_return_sequences_in_group"]
    for name in ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm"):
        assert getattr(optimizer, name) == GUIDE[name]
    assert (algo.clip_low, algo.clip_high) == (GUIDE["clip_range"], GUIDE["clip_range"])
    assert GUIDE["use_kl_loss"]
    assert algo.kl_coef == GUIDE["kl_loss_coef"]
    assert vars(algo.temperature_schedule) == GUIDE["temperature_schedule"]


def test_optimizer_step_has_the_accumulated_batch_of_the_guide(preset):
    algo = preset.algo
    passes = algo.tasks_per_step * algo.samples_per_task / algo.micro_batch_size
    assert passes == GUIDE["gradient_accumulation_steps"]
    assert (algo.minibatch_size, algo.epochs_per_batch) == (None, 1)
    assert algo.micro_batch_tokens is None


def test_temperature_schedule_matches_guide(preset):
    at = preset.algo.temperature_schedule.at
    assert (at(0), at(150), at(499)) == (0.5, pytest.approx(0.15), pytest.approx(0.15))
    assert at(75) == pytest.approx(0.325)


def test_environment_matches_guide(preset):
    env = preset.env
    assert env.execution_timeout == GUIDE["execution_timeout"]
    assert env.aflow_executor_model == GUIDE["aflow_executor_model"]
    for name in ("aflow_config_path", "aflow_operator_descriptions_path"):
        assert Path(getattr(env, name)).name == Path(GUIDE[name]).name
    assert set(env.tasks) == {"name", "path"}
    assert env.tasks["path"] == {"train": GUIDE["train_dataset"], "test": GUIDE["test_dataset"]}
    assert list(TIERS) == sorted(DOCUMENT["tiers"])


def test_default_domain_ratios_match_guide():
    assert GUIDE["domain_ratios"] == RATIOS
    tasks = make(WorkflowConfig().tasks, "train")
    first = [tasks[i].metadata["source"] for i in range(100)]
    assert {name: first.count(name) / 100 for name in RATIOS} == GUIDE["domain_ratios"]


def test_output_matches_guide(preset):
    assert preset.output_dir == GUIDE["output_dir"] == GUIDE["checkpointing"]["save_dir"]
    for name in ("log_every", "save_every", "eval_every"):
        assert getattr(preset, name) == GUIDE[name]
    assert preset.keep_last * preset.save_every >= preset.steps, "every checkpoint of the guide is kept"
    wandb = GUIDE["wandb"]
    assert (preset.wandb, preset.wandb_project, preset.wandb_run_name) == (True, wandb["project"], wandb["run_name"])


def test_files_of_the_preset_exist(preset):
    models = read_models(ROOT / preset.env.aflow_config_path)
    assert GUIDE["aflow_executor_model"] in models
    assert set(read_descriptions(ROOT / preset.env.aflow_operator_descriptions_path)) == set(OPERATORS)


@pytest.mark.parametrize("advice", ["algo.tasks_per_step=2", "algo.micro_batch_size=2", "policy.lora_rank=64"])
def test_overrides_of_the_guide_compose(advice):
    compose_config(["+experiment=workflow_aflow", advice])


def test_documentation_maps_every_key_and_command_of_the_guide():
    page = ROOT / "docs" / "coming_from" / "aflow.md"
    table = re.findall(r"^\| (.+?) \| (.+?) \|$", page.read_text(), re.MULTILINE)
    there = " ".join(left for left, _ in table)
    nested = [key for value in GUIDE.values() if isinstance(value, dict) for key in value]
    for name in [*GUIDE, *nested, *DOCUMENT["commands"]]:
        assert name.removeprefix("./") in there, name
