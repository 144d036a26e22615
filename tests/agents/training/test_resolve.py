"""The plan of a run: what follows from its configuration, decided without loading or changing anything."""

import ast
import copy
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from agents import distributed
from agents.config.compose import compose_config
from agents.training.build import load_run
from agents.training.folder import read_config, write_config
from agents.training.resolve import resolve, total_steps
from reason_envs.errors import OptionError, ReasonEnvsError, RunError

ROLES = ("env=petting_math", "policy.sharing=model_per_role")
AGENTS = Path(__file__).resolve().parents[3] / "agents"
RUNS = (
    (),
    ("env=reason_tree",),
    ("env=reason_tree", "policy=language", "env.engine={name: transformers, model: mine}"),
    ("env=reason_tree", "placement.generator=cuda:0", "placement.policy=cuda:1", "reward_model.train=true"),
    ("env=petting_math", "policy.sharing=model_per_role", "placement.roles={tool: cuda:0}"),
    ("env=planner_solver", "env.solver=policy", "policy.lora_rank=8", "engine=vllm", "engine.max_lora_rank=8"),
    ("policy.model=mine", "policy.device=cuda:1", "engine.device=cuda:0", "eval_every=0"),
)


@pytest.mark.parametrize("arguments", RUNS, ids=" ".join)
def test_resolve_changes_nothing_and_is_idempotent(arguments, tmp_path):
    config = compose_config([*arguments, f"output_dir={tmp_path}"])
    before = copy.deepcopy(config)
    plan = resolve(config)
    assert config == before
    assert resolve(plan.config) == plan
    write_config(tmp_path, plan.config)
    assert resolve(read_config(tmp_path)) == plan
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    with pytest.raises(FrozenInstanceError):
        plan.folder = None


def test_resolve_lets_the_engine_follow_the_policy():
    config = resolve(compose_config(["policy.model=mine", "policy.device=cuda:1", "engine.device=cuda:0"])).config
    assert (config.engine.model, config.engine.device) == ("mine", "cuda:0")
    tree = resolve(compose_config(["env=reason_tree", "engine.model=mine"]))
    assert (tree.config.engine.model, tree.frozen_engine["model"], tree.writes_text) == ("mine", "mine", False)


def test_resolve_gives_the_generator_only_to_a_policy_that_does_not_write():
    plan = resolve(compose_config(["env=reason_tree", "policy=language", "reward_model=random"]))
    assert (plan.frozen_engine, plan.reward_model["name"]) == (None, "random")
    assert resolve(compose_config([])).reward_model is None


def test_resolve_chooses_the_held_out_problems():
    assert resolve(compose_config(["eval_every=0", "env.split=test"])).held_out is None
    assert resolve(compose_config(["eval_set=gcd"])).held_out == "gcd"
    assert resolve(compose_config(["env.tasks=gcd"])).held_out == "gcd"
    with pytest.raises(OptionError, match=r"env\.split='test' would train on the problems of the evaluations"):
        resolve(compose_config(["env.split=test"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy.sharing=lora_per_role", "policy.lora_rank=8"], "set policy.sharing=shared"),
        (["policy.lora_rank=8"], "engine=transformers gets merged weights"),
        ([], "the policy has no adapter"),
    ],
)
def test_resolve_refuses_a_frozen_model_that_training_would_change(arguments, message):
    with pytest.raises(OptionError, match=message):
        resolve(compose_config(["env=planner_solver", "env.solver=policy", *arguments]))


@pytest.mark.parametrize("env", ["single_turn_math", "planner_solver", "reason_tree", "workflow"])
@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("os:getcwd", "cannot be called with a response and a task"),
        ("{name: os:getcwd, alpha: 2}", "cannot be called with a response and a task"),
        ("[{name: math, weight: 1}, {name: operator:eq, weight: x}]", r"env\.reward\.1\.weight='x' must be a finite"),
        ("[]", "list of rewards is empty"),
    ],
)
def test_resolve_checks_the_reward_before_anything_is_loaded(env, reward, message):
    with pytest.raises(ReasonEnvsError, match=message):
        resolve(compose_config([f"env={env}", f"env.reward={reward}"]))


def test_total_steps_is_the_smaller_limit():
    config = replace(compose_config(["algo.tasks_per_step=8"]), steps=10, epochs=2.0)
    assert (total_steps(config, 8), total_steps(config, 20), total_steps(config, 80)) == (2, 5, 10)
    assert total_steps(replace(config, epochs=None), 8) == 10
    assert total_steps(replace(config, steps=None), 80) == 20


def attributes_set(path):
    """Yield what a file assigns to attributes of something named config, other than ``self``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) else []:
            if isinstance(target, ast.Attribute) and re.search(r"\bconfig\b", ast.unparse(target.value)):
                yield ast.unparse(target)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__"):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", sorted(AGENTS.rglob("*.py")), ids=lambda path: str(path.relative_to(AGENTS)))
def test_no_file_changes_the_configuration(path):
    assert list(attributes_set(path)) == []


def test_a_change_of_the_configuration_is_found(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("config.engine.model = 1\nself.config.steps += 1\nself.config = 2\nsetattr(part, 'device', 3)\n")
    assert list(attributes_set(file)) == ["config.engine.model", "self.config.steps", "setattr(part, 'device', 3)"]


def test_load_run_takes_one_folder():
    with pytest.raises(RunError, match=r"either run=.* or checkpoint="):
        load_run(None)
    with pytest.raises(RunError, match=r"either run=.* or checkpoint="):
        load_run("a", "b")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["policy.device=cuda:0"], "policy.device"),
        (["env=reason_tree", "placement.generator=cuda:1"], "engine.device"),
        (["+experiment=planner_solver_numinamath", "policy.device=auto", "engine.device=auto"], "env.solver.device"),
        ([*ROLES, "placement.roles={tool: cuda:0}"], "placement.roles.tool"),
    ],
)
def test_resolve_refuses_one_gpu_for_several_processes(monkeypatch, arguments, key):
    resolve(compose_config(arguments))
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(OptionError, match=rf"^{re.escape(key)}='cuda:\d' is one GPU for all 2 processes"):
        resolve(compose_config(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=reason_tree", "cluster.learner.shard=full"], r"^cluster\.learner\.shard='full' applies to policy=lang"),
        (["cluster.learner.shard=full", "policy.precision=float16"], r"^policy\.precision='float16' cannot be sharded"),
        (["cluster.learner.shard=half"], r"^cluster\.learner\.shard='half' is unknown"),
        (["cluster.learner.offload=all"], r"^cluster\.learner\.offload='all' needs shard"),
    ],
)
def test_resolve_refuses_what_cannot_be_sharded(arguments, message):
    with pytest.raises(OptionError, match=message):
        resolve(compose_config(arguments))
