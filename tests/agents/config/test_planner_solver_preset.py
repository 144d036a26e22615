"""The preset of query-conditioned guidelines matches its reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from agents.algorithms.config import check_minibatches
from agents.algorithms.grpo import GRPOConfig
from agents.config.compose import compose_config
from agents.config.schema import options
from agents.training.folder import check_start
from agents.training.resolve import resolve, total_steps
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.vllm.options import VllmEngineConfig
from reason_envs.rewards import MathReward, build_reward
from reason_envs.tasks import make

ROOT = Path(__file__).resolve().parents[3]
PRESET = "+experiment=planner_solver_numinamath"
GUIDE = yaml.safe_load((ROOT / "tests" / "data" / "planner_solver_guide.yaml").read_text())
"""Parameters of the reference, unchanged."""
ROLLOUT, ACTOR, REF = (f"actor_rollout_ref.{part}." for part in ("rollout", "actor", "ref"))
LOW_VARIANCE = {"low_var_kl": "k3"}


@pytest.fixture
def preset():
    return compose_config([PRESET])


def test_data_and_lengths_match_guide(preset):
    assert preset.algo.tasks_per_step == GUIDE["data.train_batch_size"]
    assert preset.policy.max_prompt_tokens == GUIDE["data.max_prompt_length"]
    assert preset.policy.max_tokens == preset.env.solver_max_tokens == GUIDE["data.max_response_length"]
    assert (preset.policy.overlong_prompts == "filter") is GUIDE["data.filter_overlong_prompts"]
    assert GUIDE["data.truncation"] == "error"  # engines never cut a prompt


def test_rollouts_match_guide(preset):
    engine = preset.engine
    assert preset.algo.samples_per_task == GUIDE[ROLLOUT + "n"]
    assert preset.algo.tasks_per_step * preset.algo.samples_per_task == GUIDE["effective_batch"]
    assert engine.name == GUIDE[ROLLOUT + "name"]
    assert engine.tensor_parallel_size == GUIDE[ROLLOUT + "tensor_model_parallel_size"]
    assert engine.memory_fraction == GUIDE[ROLLOUT + "gpu_memory_utilization"]
    assert engine.chunked_prefill is GUIDE[ROLLOUT + "enable_chunked_prefill"]
    assert preset.algo.log_prob_micro_batch_size == GUIDE[ROLLOUT + "log_prob_micro_batch_size_per_gpu"]
    assert VllmEngineConfig(**options(engine)).chunked_prefill is False


def test_actor_matches_guide(preset):
    algo = preset.algo
    assert algo.minibatch_size == GUIDE[ACTOR + "ppo_mini_batch_size"]
    assert algo.micro_batch_size == GUIDE[ACTOR + "ppo_micro_batch_size_per_gpu"]
    assert algo.optimizer.learning_rate == float(GUIDE[ACTOR + "optim.lr"])
    assert (algo.kl_coef > 0) is GUIDE[ACTOR + "use_kl_loss"]
    assert algo.kl_coef == GUIDE[ACTOR + "kl_loss_coef"]
    assert algo.kl_kind == LOW_VARIANCE[GUIDE[ACTOR + "kl_loss_type"]]
    assert algo.entropy_coef == GUIDE[ACTOR + "entropy_coeff"]
    assert preset.policy.gradient_checkpointing is GUIDE["actor_rollout_ref.model.enable_gradient_checkpointing"]
    assert GUIDE[ACTOR + "fsdp_config.param_offload"] is False  # the weights of a policy are always on policy.device
    assert preset.policy.device.startswith("cuda")


def test_reference_matches_guide(preset):
    assert preset.algo.reference_micro_batch_size == GUIDE[REF + "log_prob_micro_batch_size_per_gpu"]
    assert (preset.policy.reference_device == "offload") is GUIDE[REF + "fsdp_config.param_offload"]


def test_solver_and_reward_match_guide(preset):
    assert preset.env.solver["model"] == preset.policy.model == GUIDE["VERL_GUIDELINES_SOLVER_MODEL"]
    reward = build_reward(preset.env.reward)
    assert isinstance(reward, MathReward)
    assert GUIDE["VERL_GUIDELINES_USE_MATH_VERIFY"] == 1
    assert (reward.correct, reward.wrong, reward.no_answer) == (GUIDE["reward"], 0.0, 0.0)
    assert not preset.env.leak_check
    assert preset.env.solver_samples * GUIDE["effective_batch"] == GUIDE["solver_calls"]


def test_algorithm_and_trainer_match_guide(preset):
    assert preset.algo.name == GUIDE["algorithm.adv_estimator"]
    assert (preset.algo.kl_reward_coef == 0.001) is GUIDE["algorithm.use_kl_in_reward"]
    assert preset.steps == GUIDE["trainer.total_training_steps"]
    assert preset.epochs == GUIDE["trainer.total_epochs"]
    assert preset.save_every == GUIDE["trainer.save_freq"]
    assert preset.eval_every == GUIDE["trainer.test_freq"]
    assert preset.policy.model == GUIDE["actor_rollout_ref.model.path"]
    assert GUIDE["trainer.nnodes"] == 1


def test_models_are_on_three_gpus(preset):
    devices = [preset.engine.device, preset.policy.device, preset.env.solver["device"]]
    assert len({*devices}) == GUIDE["trainer.n_gpus_per_node"]


def test_steps_end_the_run_before_the_epochs(preset):
    assert total_steps(preset, 30_000) == 300
    assert total_steps(preset, 600) == 200


def test_second_run_in_the_folder_is_an_error(preset, tmp_path):
    name = GUIDE["trainer.default_local_dir"].strip("/").rpartition("/")[2]
    assert preset.output_dir.endswith(name)
    assert compose_config([PRESET]).output_dir == preset.output_dir, "every run has the same folder"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.yaml").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    with pytest.raises(ReasonEnvsError, match=r"holds a run already\. Continue it with resume="):
        check_start(resolve(compose_config([PRESET, f"output_dir={folder}"])))


# --- batch sizes count responses


def test_step_has_five_updates(preset):
    algo = GRPOConfig(**options(preset.algo))
    check_minibatches(algo, 1)
    assert algo.tasks_per_step * algo.samples_per_task / algo.minibatch_size == 5
    assert algo.minibatch_size % algo.micro_batch_size == 0
    longest = preset.policy.max_prompt_tokens + preset.policy.max_tokens
    assert algo.micro_batch_tokens >= algo.micro_batch_size * longest


@pytest.mark.parametrize("size", [25, 36, 240])
def test_mini_batch_with_a_remainder_is_an_error(size):
    algo = GRPOConfig(tasks_per_step=30, samples_per_task=4, minibatch_size=size)
    with pytest.raises(ReasonEnvsError) as caught:
        check_minibatches(algo, 1)
    for part in (
        f"minibatch_size={size} must divide the 120 responses",
        "30 x algo.samples_per_task=4",
        "not tasks",
    ):
        assert part in str(caught.value)
    check_minibatches(algo, None)  # any size is valid if episodes differ in length


def test_micro_batch_above_the_mini_batch_is_an_error():
    with pytest.raises(ReasonEnvsError, match=r"micro_batch_size=8 must not exceed minibatch_size=4"):
        GRPOConfig(minibatch_size=4, micro_batch_size=8)


# --- data and documentation


def test_numinamath_answers_are_in_the_last_box(preset):
    path = ROOT / "tests" / "data" / "tasks" / "numinamath.jsonl"
    tasks = make({**preset.env.tasks, "path": str(path)}, "train")
    assert [task.answer for task in tasks] == ["5", r"\frac{5}{12}"]
    assert tasks[0].question.startswith("A rectangle")
    assert tasks.left_out["without an answer"] == 1, "a proof has no box"


def test_documentation_maps_every_parameter_of_the_guide():
    page = ROOT / "docs" / "coming_from" / "planner_solver.md"
    table = re.findall(r"^\| (.+?) \| (.+?) \|$", page.read_text(), re.MULTILINE)
    there = " ".join(left for left, _ in table)
    for name in GUIDE.keys() - {"effective_batch", "reward", "solver_calls"}:
        assert re.search(rf"{re.escape(name.rpartition('.')[2])}\b", there), name
