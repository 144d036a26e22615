"""The presets of multi-agent training hold the numbers of the AT-GRPO guide, and the README maps its names."""

import re
from pathlib import Path

import pytest
import yaml

from agents.config.compose import compose_config
from agents.tracking.episode_metrics import describe
from agents.training.trainer import _total_steps
from agents.trajectory import Trajectory
from reason_envs.envs.petting.base import MAX_OUTCOME_CHARS
from reason_envs.tasks import make, names

ROOT = Path(__file__).resolve().parents[3]
GUIDE = yaml.safe_load((ROOT / "tests" / "data" / "petting_guide.yaml").read_text())
"""The guide's parameters, commands and log folder as they stand there."""
GAMES = ("math", "code", "sokoban", "sudoku", "plan_path")
SHARINGS = ("single", "shared", "lora_per_role", "model_per_role")
PRESETS = [f"petting_{game}_{sharing}" for game in GAMES for sharing in SHARINGS]
PARAMETERS = [name for name in GUIDE if "." in name or name in ("CUDA_VISIBLE_DEVICES", "GPU_num")]


def preset(name, *more):
    return compose_config([f"+experiment={name}", *more])


def test_there_is_a_preset_of_every_game_and_sharing():
    assert {path.stem for path in (ROOT / "conf" / "experiment").glob("petting_*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_numbers_are_the_guides(name):
    config = preset(name)
    ours = {
        "GPU_num": config.engine.tensor_parallel_size,
        "training.total_training_steps": config.steps,
        "training.epoch_size": config.algo.tasks_per_step,
        "training.train_batch_size": config.algo.minibatch_size,
        "training.max_prompt_length": config.policy.max_prompt_tokens,
        "training.max_response_length": config.policy.max_tokens,
        "training.val_freq": config.eval_every,
    }
    assert ours == {key: GUIDE[key] for key in ours}
    assert {key for key in PARAMETERS if GUIDE[key] != "-"} == ours.keys()
    assert config.policy.model == GUIDE["example"]["base_models.policy_0.path"]
    assert _total_steps(config, 53_000, config.algo) == 200
    assert config.output_dir.startswith(f"logs/{name}/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", config.output_dir.removeprefix(f"logs/{name}/"))


@pytest.mark.parametrize("name", PRESETS)
def test_the_method_is_the_papers(name):
    """Four turns, four candidates, alpha 1, clip 0.2, dual clip 3, token mean, neither KL nor entropy, rate 5e-6."""
    config = preset(name)
    algo = config.algo
    assert (algo.name, algo.samples_per_task, algo.select) == ("at_grpo", 4, "best")
    assert (config.env.max_turns, config.env.alpha) == (4, 1.0)
    assert (algo.clip_low, algo.clip_high, algo.dual_clip, algo.aggregation) == (0.2, 0.2, 3.0, "token_mean")
    assert (algo.kl_coef, algo.kl_reward_coef, algo.entropy_coef) == (0, 0, 0)
    assert algo.optimizer.learning_rate == 5e-6
    assert algo.scale == "std"


@pytest.mark.parametrize("name", PRESETS)
def test_everything_fits(name):
    config = preset(name)
    history = 2 * (config.env.max_shown_chars + MAX_OUTCOME_CHARS + 100)
    longest = config.policy.max_prompt_tokens + history + config.policy.max_tokens
    assert config.algo.micro_batch_tokens >= longest
    assert config.engine.max_model_len >= longest
    assert config.env.max_response_chars >= 4 * config.policy.max_tokens


@pytest.mark.parametrize("sharing", SHARINGS)
def test_paths_lead_over_grids_as_large_as_the_papers(sharing):
    rows = make(preset(f"petting_plan_path_{sharing}").env.tasks)[0].question.split("\n")
    assert {len(rows), *map(len, rows)} == {10}


@pytest.mark.parametrize("game", GAMES)
def test_who_plays(game):
    found = {sharing: preset(f"petting_{game}_{sharing}") for sharing in SHARINGS}
    assert {config.env.name for config in found.values()} == {f"petting_{game}"}
    assert {sharing: config.policy.sharing for sharing, config in found.items()} == {
        "single": "shared",
        "shared": "shared",
        "lora_per_role": "lora_per_role",
        "model_per_role": "model_per_role",
    }
    assert [found[sharing].env.roles == "single" for sharing in SHARINGS] == [True, False, False, False]
    lora = found["lora_per_role"]
    assert lora.engine.max_lora_rank >= lora.policy.lora_rank > 0
    assert lora.engine.max_loras == 2
    assert found["model_per_role"].policy.lora_rank == 0


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_data(sharing):
    math, code = preset(f"petting_math_{sharing}"), preset(f"petting_code_{sharing}")
    assert (math.env.tasks["name"], math.eval_set) == ("polaris", "AIME24")
    assert (code.env.tasks["name"], code.eval_set) == ("code_contests", "interview")
    assert math.env.tasks["name"] == GUIDE["example"]["env.dataset"]
    assert {*GUIDE["datasets"], *GUIDE["benchmarks"]} <= set(names())


@pytest.mark.parametrize(
    "advice",
    [
        ["steps=2000", "algo.tasks_per_step=50", "algo.minibatch_size=128"],
        ["engine.tensor_parallel_size=4"],
        ["policy.max_prompt_tokens=4096", "policy.max_tokens=2048"],
        ["algo=grpo"],
        ["algo.select=sample", "algo.samples_per_task=8"],
        ["eval_set=AIME25", "env.tasks.path=copies/polaris"],
    ],
    ids=" ".join,
)
def test_what_users_change_composes(advice):
    config = preset("petting_math_shared", *advice)
    for override in advice:
        key, value = override.split("=")
        part = config
        for name in key.split("."):
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        assert str(getattr(part, "name", part)) == value


def test_a_run_tells_the_guides_metrics():
    trajectory = Trajectory("t", "e", [], True, False, metrics={"correct": 1.0, "episode_length": 2.0})
    figures = describe([trajectory])
    assert {"reward": 0.0, "accuracy": 1.0, "episode_length": 2.0}.items() <= figures.items()


def test_the_readme_maps_every_name_of_the_guide():
    table = re.findall(r"^\| (.+?) \| (.+?) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    there = "\n".join(left for left, _ in table)
    wanted = [
        *PARAMETERS,
        *GUIDE["datasets"],
        *GUIDE["benchmarks"],
        *GUIDE["commands"],
        *GUIDE["logs"],
        *GUIDE["metrics"],
    ]
    assert [name for name in wanted if name not in there] == []
