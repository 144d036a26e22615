"""Composition of a run's configuration: every file in conf/, every kind of mistake, and --help."""

import re
import subprocess
import sys
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

import pytest
from omegaconf import OmegaConf
from toys import Toy, ToyConfig

import reason_envs
from agents import train
from agents.algorithms.config import LearnerConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.config.command_line import list_options
from agents.config.compose import CONF_DIR, compose_config
from agents.config.schema import GROUPS, TrainConfig, _typed_group, choice, options, typed
from agents.training.folder import read_config, write_config
from reason_envs.errors import ReasonEnvsError

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))


def refused(*overrides):
    with pytest.raises(ReasonEnvsError) as caught:
        compose_config(overrides)
    return str(caught.value)


def test_conf_holds_only_known_files():
    names = {str(path.relative_to(CONF_DIR)) for path in CONF_DIR.rglob("*") if path.is_file()}
    included = {"experiment/petting/numbers.yaml", "aflow_llm.yaml", "aflow_operators.yaml"}
    assert names == {"config.yaml", *(f"experiment/{name}.yaml" for name in EXPERIMENTS)} | included
    assert EXPERIMENTS


@pytest.mark.parametrize("overrides", [[], *([f"+experiment={name}"] for name in EXPERIMENTS)])
def test_compose_types_every_file(overrides, tmp_path):
    config = compose_config(overrides)
    assert isinstance(config, TrainConfig)
    assert isinstance(config.algo, LearnerConfig)
    for group, (_, config_of) in GROUPS.items():
        assert isinstance(getattr(config, group), config_of(getattr(config, group).name))
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


def test_compose_takes_defaults_from_the_dataclasses():
    config = compose_config([])
    for group, (_, config_of) in GROUPS.items():
        part = getattr(config, group)
        assert options(part) == vars(config_of(part.name)())


@pytest.mark.parametrize("env", ["single_turn_math", "planner_solver", "reason_tree", "workflow"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{name: own:f, scale: 2}", {"name": "own:f", "scale": 2}),
        ("[{name: math, weight: 1}, own:f]", [{"name": "math", "weight": 1}, "own:f"]),
    ],
)
def test_compose_takes_options_of_a_reward_and_lists_of_rewards(env, text, value):
    config = compose_config([f"env={env}", f"env.reward={text}"])
    assert config.env.reward == value
    assert typed(asdict(config)).env.reward == value  # as config.yaml stores it


def test_compose_takes_a_gymnasium_id():
    assert compose_config(["env=PettingSudoku-v0"]).env == compose_config(["env=petting_sudoku"]).env


def test_weighted_mathematics_suits_another_model():
    config = compose_config(["env.reward=[{name: math, weight: 2, wrong: -3}, own:f]", "policy.model=theirs"])
    assert config.env.reward[0] == {
        "name": "math",
        "weight": 2,
        "wrong": -3,
        "no_answer": 0,
        "fallbacks": ["last_number"],
    }


@pytest.mark.parametrize("name", ["random", "my_rewards:score"])
def test_compose_takes_a_reward_by_name(name):
    config = compose_config([f"env.reward={name}", "env.reward.correct=2"])
    assert (config.env.reward.name, config.env.reward.correct) == (name, 2.0)


def test_compose_overrides_nested_options():
    config = compose_config(
        ["algo.optimizer.learning_rate=1e-5", "env.reward.correct=2", "policy.stop=[END]", "epochs=0.5", "steps=null"]
    )
    assert config.algo.optimizer.learning_rate == 1e-5
    assert config.env.reward.correct == 2.0
    assert config.policy.stop == ["END"]
    assert (config.steps, config.epochs) == (None, 0.5)


def test_compose_names_the_run_folder_by_the_time():
    assert compose_config([]).output_dir.startswith("runs/20")


@pytest.mark.parametrize(
    ("overrides", "tasks"),
    [
        (["env.tasks={name: chain_sum, max_terms: 3}"], {"name": "chain_sum", "max_terms": 3}),
        (["env.tasks={name: a, x: 1}", "env.tasks={name: b, y: 2}"], {"name": "b", "y": 2}),
        (["env.tasks={name: a, x: 1}", "env.tasks.x=3", "env.tasks.y=4"], {"name": "a", "x": 3, "y": 4}),
        (["+experiment=grpo_math_lora", "env.tasks={name: json, path: p}"], {"name": "json", "path": "p"}),
        (["env.tasks=gcd", "env.tasks.size=5"], {"name": "gcd", "size": 5}),
        (["+experiment=grpo_math_lora_test", "env.tasks.size=5"], {"name": "chain_sum", "size": 5}),
        (["env=petting_sudoku", "env.tasks=mine:family", "env.tasks.size=5"], {"name": "mine:family", "size": 5}),
    ],
)
def test_compose_replaces_tasks_or_changes_one_key(overrides, tasks):
    assert compose_config(overrides).env.tasks == tasks


def test_compose_replaces_a_part_inside_an_environment_or_changes_one_key():
    def solver(*overrides):
        return compose_config(["env=planner_solver", *overrides]).env.solver

    assert solver("env.solver={name: mine:engine, text: x}") == {"name": "mine:engine", "text": "x"}
    assert solver("env.solver.model=m") == {"name": "transformers", "model": "m"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stepz=3", "Unknown key 'stepz'. Did you mean 'steps'"),
        ("+foo=1", "'foo'. Valid: algo, cluster, engine, env"),
        ("++foo=1", "'foo'. Valid: algo, cluster, engine, env"),
        ("algo.samples_per_tsk=3", "Unknown key 'algo.samples_per_tsk'. Did you mean 'algo.samples_per_task'"),
        ("algo.optimizer.learning_rat=1", "Did you mean 'algo.optimizer.learning_rate'"),
        ("+algo.optimizer.foo=1", "'foo'"),
        ("engine.kv_cache_gib=1", "'engine.kv_cache_gib' is an option of engine=vllm, which this run does not have"),
        ("env.reward.corect=1", "Did you mean 'env.reward.correct'"),
        ("env=single_turn_maths", "Unknown env 'single_turn_maths'. Did you mean 'single_turn_math'"),
        ("algo=gppo", "Unknown algo 'gppo'. Did you mean 'ppo' or 'grpo'"),
        ("policy=null", "Unknown policy 'null'"),
        ("engine=transformer", "Unknown engine 'transformer'. Did you mean 'transformers'"),
        ("~env", "Unknown env 'None'"),
        ("env.name=other", "Unknown env 'other'"),
        ("egine=transformers", "Unknown key 'egine'. Did you mean 'engine'"),
        ("+experiment=grpo_math", "Unknown experiment 'grpo_math'. Did you mean 'grpo_math_lora'"),
        ("steps=many", "Bad value of steps: Value 'many' of type 'str' could not be converted to Integer"),
        ("env.reward.correct=one", "Bad value of env.reward.correct"),
        (
            "env.reward.fallbacks=last_number",
            "Bad value of env.reward.fallbacks: it must be a list, such as '[a, b]'",
        ),
        ("env.reward.fallbacks={a: 1}", "Bad value of env.reward.fallbacks: it must be a list"),
        ("env.tasks=[chain_sum, gsm8k]", "Bad value of env.tasks: it must be a mapping, such as '{a: 1}'"),
        ("policy.gradient_checkpointing=perhaps", "Bad value of policy.gradient_checkpointing"),
        ("seed=${nothing}", "Bad value of seed: Interpolation key 'nothing' not found"),
        ("env.system_prompt=${x}", r"""as in 'KEY="\${x}"'."""),
        ("nonsense", "Cannot read 'nonsense'"),
        ("env.system_prompt='a", "quote a value"),
        ("env.tasks={name:", "once, so that the shell keeps its spaces, as in 'env.tasks={name: ...}'."),
        ("policy.stop=[a,", "as in 'policy.stop=[a, ...]'."),
        ("keep_last=0", "keep_last=0 must be at least 1"),
        ("eval_every=-1", "eval_every=-1 must be at least 0"),
        (
            "env.reward.fallbacks=[nothing]",
            "env.reward.fallbacks='nothing' is unknown. Valid: ####, last_number.",
        ),
        ("policy.precision=half", "policy.precision='half' is unknown. Valid: auto"),
        ("policy.sharing=lora_per_role", "policy.sharing='lora_per_role' does not fit lora_rank=0 and adapter=None"),
        ("steps=0", "steps=0 and epochs=None: give at least one of them, above 0"),
    ],
)
def test_compose_error_names_the_value_and_the_valid_ones(override, expected):
    assert expected in refused(override)


@pytest.mark.parametrize(
    ("env", "override", "expected"),
    [
        ("petting_sudoku", "env.max_turns=0", "env.max_turns=0 must be at least 1."),
        ("petting_sudoku", "env.roles=nobody", "env.roles='nobody' is unknown. Valid: team, single."),
        ("planner_solver", "env.solver_samples=0", "env.solver_samples=0 must be at least 1."),
        ("reason_tree", "policy.norm=batch", "policy.norm='batch' would make importance ratios wrong"),
        ("reason_tree", "algo.kl_coef=-1", "algo.kl_coef=-1.0 must be at least 0."),
    ],
)
def test_compose_error_names_the_key_as_the_user_types_it(env, override, expected):
    assert refused(f"env={env}", override).startswith(expected)


def every_option(group):
    """Yield each part of a group with the path of each of its options."""
    names, config_of = GROUPS[group]

    def paths(schema):
        for entry in fields(schema):
            default = entry.default_factory() if entry.default_factory is not MISSING else None
            nested = paths(type(default)) if is_dataclass(default) else [()]
            yield from ((entry.name, *path) for path in nested)

    return [(name, path) for name in names() for path in paths(config_of(name))]


def error_of(build, *arguments):
    """Return the message of the error that a call raises; empty if it raises none."""
    try:
        build(*arguments)
    except ReasonEnvsError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", [-1, "nonsense", ["nonsense"]], ids=str)
def test_every_invalid_value_is_reported_with_the_full_key(group, value):
    for name, path in every_option(group):
        part = value
        for key in reversed(path):
            part = {key: part}
        message = error_of(_typed_group, group, {"name": name, **part})
        assert message.startswith((f"{group}.", f"Bad value in {group}: ")) or not message, (name, path)


@pytest.mark.parametrize("group", GROUPS)
def test_compose_error_lists_all_names_of_a_group(group):
    assert f"Valid: {', '.join(GROUPS[group][0]())}." in refused(f"{group}=nothing_like_it")


def test_typed_validates_configurations_from_files():
    good = {group: {"name": part.name} for group, part in vars(compose_config([])).items() if group in GROUPS}
    assert typed(good).seed == 0
    for bad, expected in (
        ({**good, "sede": 1}, "Did you mean 'seed'"),
        ({**good, "algo": {"name": "grpo", "kl_coeff": 1}}, "Did you mean 'kl_coef'"),
        ({**good, "algo": {"name": "grpo", "optimizer": {"lr": 1}}}, "'lr'"),
        ({**good, "env": {}}, "Unknown env 'None'"),
        ({k: v for k, v in good.items() if k != "policy"}, "Unknown policy 'None'"),
    ):
        with pytest.raises(ReasonEnvsError, match=expected):
            typed(bad)


@pytest.mark.slow
def test_help_names_every_choice_and_every_key(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = subprocess.run([sys.executable, "-m", "agents.train", "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    unwrapped = done.stdout.replace("\n  ", " ")
    for group, (names, _) in GROUPS.items():
        assert f"\n{group}: {', '.join(names())}\n" in unwrapped
    assert f"\n+experiment: {', '.join(EXPERIMENTS)}\n" in unwrapped
    for key in [field.name for field in fields(TrainConfig)]:
        assert f"\n{key}: " in done.stdout or f"\n{key}:\n" in done.stdout
    for expected in ("python -m agents.train resume=", "a.b=value"):
        assert expected in done.stdout
    assert re.search(r"\nseed: 0 +# Seed of all random draws of the run\.\n", done.stdout)
    rank = r"\n  lora_rank: 0 +# Rank of the matrices of a new LoRA adapter; 0 trains the full model\.\n"
    assert re.search(rank, done.stdout)
    rate = re.search(r"\n    learning_rate: (\S+) +# Peak learning rate\.\n", done.stdout)
    assert float(rate[1]) == OptimizerConfig().learning_rate


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ([], ["policy.model=embedded", "env=single_turn_math", "'env.tasks={name: chain_sum}'", "env.reward=math"]),
        (["env=reason_tree"], ["env=reason_tree", "'env.tasks={name: chain_sum}'", "env.reward=math", "steps=60"]),
    ],
)
def test_help_begins_with_what_a_newcomer_needs(given, first, capsys, monkeypatch):
    """The model, the environment, its tasks and reward come before the length, the batch, the rate and the folder."""
    monkeypatch.setenv("COLUMNS", "80")
    train._run([*given, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    begin, end = lines.index("== First options =="), lines.index("== Parts (choose with part=name) ==")
    typed = [line.partition(" # ")[0].strip() for line in lines[begin + 1 : end] if line and line[0] not in " #"]
    assert typed[: len(first)] == first
    rate = next(i for i, line in enumerate(typed) if line.startswith("algo.optimizer.learning_rate="))
    assert typed.index("steps=60") < rate
    assert typed[-1].startswith("output_dir=runs/")


def test_help_lists_the_options_of_the_parts_that_are_chosen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["train", "env=petting_code", "env.max_tests=3", "--help"])
    train._run(sys.argv[1:])
    listed = capsys.readouterr().out
    assert re.search(r"\n  max_tests: 3 +# Maximum number of tests ", listed)
    assert "no_answer" not in listed


def test_help_ends_quietly_with_its_reader():
    command = f"{sys.executable} -m agents.train --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == "Train a policy in an environment: python -m agents.train [KEY=VALUE ...].\n"
    assert done.stderr == ""


def test_help_reports_a_mistake_in_the_command(capsys):
    with pytest.raises(SystemExit):
        train._run(["seed=${nothing}", "--help"])
    assert "Bad value of seed: Interpolation key 'nothing' not found" in capsys.readouterr().err


def test_every_option_has_a_meaning():
    for group, (names, config_of) in GROUPS.items():
        for name in names():
            options_and_name = list_options(OmegaConf.structured(choice(config_of(name), name))).splitlines()
            listed = options_and_name[:-1]
            silent = [a for a, b in pairwise([*listed, ""]) if "# " not in a and not b.lstrip().startswith("# ")]
            assert not silent, (group, name)


def test_compose_accepts_options_that_hold_objects():
    reason_envs.register("SharedThings-v0", Toy, ToyConfig)
    assert compose_config([]).env.name == "single_turn_math"
    config = compose_config(["env=shared_things", "env.turns=2"])
    assert (config.env.turns, config.env.engine) == (2, None)


def test_compose_error_suggests_options_of_the_chosen_part():
    assert "env.roles" in refused("env=petting_sudoku", "env.max_turn=3")
    assert "env.max_depth" not in refused("env=petting_sudoku", "env.max_turn=3")
    message = refused("env=petting_sudoku", "env.solver_samples=3")
    assert "env=planner_solver, which env=petting_sudoku does not have: choose one of them" in message


@pytest.mark.parametrize("key", ["algo.sample_per_task", "algo.optimizer.learningrate", "algo.nothing"])
def test_compose_error_suggests_options_of_the_recommended_part(key):
    grpo, ppo = refused(f"{key}=4"), refused("env=reason_tree", f"{key}=4")
    assert "algo.scale" in grpo
    assert "algo.value_coef" in ppo
    assert not re.search(r"algo\.(gae_level|n_steps|learning_rate|select)", grpo)
    assert not re.search(r"algo\.(leave_one_out|n_steps|learning_rate|select)", ppo)


@dataclass
class PlainTasksConfig:
    tasks: Any = "gcd"
    split: str = "train"


def test_compose_adds_options_to_tasks_that_are_named_as_text():
    reason_envs.register("PlainTasks-v0", Toy, PlainTasksConfig)
    tasks = compose_config(["env=plain_tasks", "env.tasks.size=7"]).env.tasks
    assert tasks == {"name": "gcd", "size": 7}
    assert compose_config(["env=plain_tasks", "env.tasks=chain_sum"]).env.tasks == "chain_sum"


def test_compose_adds_options_to_the_named_sandbox():
    env = compose_config(["env=petting_code", "env.sandbox=native", "env.sandbox.workers=2"]).env
    assert env.sandbox == {"name": "native", "workers": 2}


def test_compose_error_points_to_the_same_option_elsewhere():
    message = refused("algo=grpo", "algo.learning_rate=1e-4")
    assert message.startswith("The key 'algo.learning_rate' is an option of algo=sb3_maskable_ppo and algo=sb3_ppo")
    assert message.endswith("This run has 'algo.optimizer.learning_rate' instead.")


def test_compose_replaces_mappings_or_changes_one_key():
    env = compose_config(["env=petting_code", "env.sandbox={name: native, workers: 2}", "env.prompts.coder=Go"]).env
    assert (env.sandbox, env.prompts) == ({"name": "native", "workers": 2}, {"coder": "Go"})
    assert compose_config(["env=petting_math", "env.sandbox=native", "env.roles=single"]).env.sandbox == "native"
    assert "max_turns" in refused("env=petting_sudoku", "env.max_turn=3")
