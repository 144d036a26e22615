"""Presets compose with the parts that the command line chooses; options that a part lacks are left out, in one line."""

import pytest

from agents.config.compose import CONF_DIR, compose_config
from agents.training.resolve import resolve
from reason_envs.errors import ReasonEnvsError

PRESETS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
ENGINES = {"transformers": [], "vllm": [], "openai": ["engine.model=m"], "recorded": ["engine.path=record.jsonl"]}
TEXT = [name for name in PRESETS if not name.startswith("pgts")]


@pytest.mark.parametrize(
    ("engine", "algo"), [("transformers", "ppo"), ("vllm", "at_grpo"), ("openai", "grpo"), ("recorded", None)]
)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_with_every_engine_and_algorithm(preset, engine, algo):
    chosen = [f"engine={engine}", *ENGINES[engine], *([f"algo={algo}"] if algo else [])]
    config = resolve(compose_config([f"+experiment={preset}", *chosen])).config
    assert config.engine.name == engine
    assert algo in (None, config.algo.name)


@pytest.mark.parametrize("policy", ["language", "graph", "mlp"])
def test_the_preset_of_trees_composes_with_every_policy(policy):
    config = resolve(compose_config(["+experiment=pgts_2x24gb", f"policy={policy}"])).config
    assert config.policy.name == policy
    assert config.placement.generator == (None if policy == "language" else "cuda:0")


@pytest.mark.parametrize("policy", ["graph", "mlp"])
def test_an_option_that_refers_to_one_left_out_has_its_default(policy, capsys):
    config = compose_config(["+experiment=petting_math", f"policy={policy}"])
    assert config.engine.max_lora_rank == 0
    assert "engine.max_lora_rank=${policy.lora_rank}" in capsys.readouterr().err


def test_options_that_fall_away_are_named_in_one_line(capsys):
    config = compose_config(["+experiment=pgts_2x24gb", "engine=vllm", "engine.max_model_len=4096"])
    assert (config.engine.model, config.engine.dtype, config.engine.max_model_len) == (
        "Qwen/Qwen3-8B",
        "bfloat16",
        4096,
    )
    assert capsys.readouterr().err == (
        "Options of the preset that the chosen parts do not have are left out: engine.max_batch_size=16, "
        "engine.embedding_size=64\n"
    )
    compose_config(["+experiment=pgts_2x24gb", "engine=transformers"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("key", ["engine.max_batch_size", "engine.max_batch_sise"])
def test_options_on_the_command_line_never_fall_away(key):
    with pytest.raises(ReasonEnvsError, match=f"'{key}'"):
        compose_config(["+experiment=pgts_2x24gb", "engine=vllm", f"{key}=4"])
