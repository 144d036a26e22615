"""The Petting presets match the AT-GRPO guide, and the documentation maps the names of the guide."""

import re
from pathlib import Path

import pytest
import yaml

from agents.config.compose import compose_config
from agents.tracking.episode_metrics import describe
from agents.training.resolve import total_steps
from agents.trajectory import Trajectory
from reason_envs.envs.petting.base import MAX_OUTCOME_CHARS
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks import make, names

ROOT = Path(__file__).resolve().parents[3]
GUIDE = yaml.safe_load((ROOT / "tests" / "data" / "petting_guide.yaml").read_text())
"""Parameters, commands and log folder of the guide, unchanged."""
GAMES = ("math", "code", "sokoban", "sudoku", "plan_path")
PRESETS = [f"petting_{game}" for game in GAMES]
TEAMS = {
    "shared": [],
    "single": ["env.roles=single"],
    "lora_per_role": ["policy.sharing=lora_per_role", "policy.lora_rank=16"],
    "model_per_role": ["policy.sharing=model_per_role"],
}
"""The options that choose each team."""
PARAMETERS = [name for name in GUIDE if "." in name or name in ("CUDA_VISIBLE_DEVICES", "GPU_num")]


def preset(name, *more):
    return compose_config([f"+experiment={name}", *more])


@pytest.fixture(params=PRESETS, scope="module")
def config(request):
    return preset(request.param)


def test_presets_cover_every_game():
    assert {path.stem for path in (ROOT / "conf" / "experiment").glob("petting_*.yaml")} == set(PRESETS)


def test_preset_matches_guide(config):
    ours = {
        "GPU_num": config.engine.tensor_parallel_size,
        "training.total_training_steps": config.steps,
        "training.train_batch_size": config.algo.tasks_per_step,
        "training.max_prompt_length": config.policy.max_prompt_tokens,
        "training.max_response_length": config.policy.max_tokens,
        "training.val_freq": config.eval_every,
    }
    assert ours == {key: GUIDE[key] for key in ours}
    assert {key for key in PARAMETERS if GUIDE[key] != "-"} == ours.keys() | {"training.epoch_size"}
    assert config.policy.model == GUIDE["example"]["base_models.policy_0.path"]
    assert total_steps(config, 53_000) == 200
    folder = f"logs/{config.env.name}/"
    assert config.output_dir.startswith(folder)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", config.output_dir.removeprefix(folder))


def test_preset_matches_paper(config):
    """Four turns, alpha 1, clip 0.2, dual clip 3, token mean, neither KL nor entropy, rate 5e-6."""
    algo = config.algo
    assert (algo.name, algo.samples_per_task, algo.select) == ("at_grpo", 8, "best")  # 8: the guide's scripts
    assert (config.env.max_turns, config.env.alpha) == (4, 1.0)
    assert (algo.clip_low, algo.clip_high, algo.dual_clip, algo.aggregation) == (0.2, 0.2, 3.0, "token_mean")
    assert (algo.kl_coef, algo.kl_reward_coef, algo.entropy_coef) == (0, 0, 0)
    assert algo.optimizer.learning_rate == 5e-6
    assert algo.scale == "std"


def test_preset_lengths_fit_the_limits(config):
    history = 2 * (config.env.max_shown_chars + MAX_OUTCOME_CHARS + 100)
    longest = config.policy.max_prompt_tokens + history + config.policy.max_tokens
    assert config.algo.micro_batch_tokens is None or config.algo.micro_batch_tokens >= longest
    assert config.engine.max_model_len >= longest
    assert config.env.max_response_chars >= 4 * config.policy.max_tokens


def test_plan_path_grids_are_as_large_as_the_papers():
    rows = make(preset("petting_plan_path").env.tasks)[0].question.split("\n")
    assert {len(rows), *map(len, rows)} == {10}


def test_preset_plays_its_game_with_one_shared_model(config):
    assert config.env.name in PRESETS
    assert (config.policy.sharing, config.policy.lora_rank, config.env.roles) == ("shared", 0, "team")
    assert config.engine.max_lora_rank == 0


@pytest.mark.parametrize("team", TEAMS)
def test_team_options_compose(team):
    config = preset("petting_code", *TEAMS[team])
    assert config.policy.sharing == ("shared" if team == "single" else team)
    assert (config.env.roles == "single") == (team == "single")
    rank = 16 if team == "lora_per_role" else 0
    assert (config.policy.lora_rank, config.engine.max_lora_rank, config.engine.max_loras) == (rank, rank, 2)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("team", TEAMS)
def test_removed_preset_error_gives_the_new_command(game, team):
    command = " ".join([f"+experiment=petting_{game}", *TEAMS[team]])
    with pytest.raises(ReasonEnvsError) as error:
        preset(f"petting_{game}_{team}")
    assert str(error.value).endswith(f"no longer exists: use {command}.")


def test_preset_data_are_the_guides():
    math, code = preset("petting_math"), preset("petting_code")
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
def test_common_overrides_compose(advice):
    config = preset("petting_math", *advice)
    for override in advice:
        key, value = override.split("=")
        part = config
        for name in key.split("."):
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        assert str(getattr(part, "name", part)) == value


def test_run_metrics_include_the_guides():
    trajectory = Trajectory("t", "e", [], True, False, metrics={"correct": 1.0, "episode_length": 2.0})
    metrics = describe([trajectory])
    assert {"reward": 0.0, "accuracy": 1.0, "episode_length": 2.0}.items() <= metrics.items()


def test_documentation_maps_every_name_of_the_guide():
    page = ROOT / "docs" / "coming_from" / "pettingllms.md"
    table = re.findall(r"^\| (.+?) \| (.+?) \|$", page.read_text(), re.MULTILINE)
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
