"""Runs of policies that do not write text: files, tokens, resuming, evaluation, and the engines of their parts."""

import asyncio
import json
import re
import signal

import pytest
import torch
from run_toys import assert_same_run, checkpoints, make_trainer, rows, train
from scripted_engine import ScriptedEngine
from value_toys import SignalConfig, Signals, ValuePolicy, ValuePolicyConfig

import reason_envs
from agents.algorithms.learner import Learner
from agents.algorithms.ppo import PPOConfig
from agents.config.compose import compose_config
from agents.evaluate import main
from agents.registry import POLICIES
from agents.training.build import build, load_run
from agents.training.resolve import resolve
from reason_envs.errors import ReasonEnvsError

OPTIONS = (
    "env=signals",
    "algo=ppo",
    "policy=value_toy",
    "steps=4",
    "algo.tasks_per_step=8",
    "algo.minibatch_size=8",
    "algo.optimizer.learning_rate=1e-2",
    "algo.optimizer.schedule=linear",
    "env.tasks={name: chain_sum, max_samples: 20}",
    "eval_every=2",
    "eval_tasks=6",
    "save_every=2",
)


@pytest.fixture(autouse=True, scope="module")
def _toys():
    """Register the toy environment and policy for this module."""
    reason_envs.register("Signals-v0", Signals, SignalConfig)
    POLICIES.register("value_toy", ValuePolicy, ValuePolicyConfig)
    yield
    del POLICIES.parts["value_toy"]


def make_run(folder, *more, resuming=False):
    return make_trainer([*OPTIONS, f"output_dir={folder}", *more], resuming=resuming)


@pytest.fixture(scope="module")
def whole(_toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(make_run(folder)) is None
    return folder


# --- a whole run


def test_run_without_an_engine_writes_all_files(whole):
    names = {path.name for path in whole.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {
        *("config.yaml", "run.json", "train.log", "summary.log", "metrics.jsonl"),
        *("curves.png", "checkpoints", "policy_final", "validate"),
    }
    assert checkpoints(whole) == ["step_2", "step_4"]
    assert "--- sample at step 1\n" in (whole / "train.log").read_text()
    assert re.search(r" hits\n(right|wrong), return \+", (whole / "train.log").read_text())
    assert "trains 148 parameters of a value_toy policy" in (whole / "train.log").read_text()


def test_run_without_an_engine_logs_its_metrics(whole):
    table = rows(whole)
    assert [row["step"] for row in table] == [0, 1, 2, 3, 4, 4]
    names = {"reward", "accuracy", "value_loss", "explained_variance", "approx_kl", "clip_frac", "entropy", "grad_norm"}
    for row in table[1:5]:
        assert names <= row.keys()
        assert not {"response_length", "sync_gap", "frac_truncated"} & row.keys()
        assert (row["episode_length"], row["episode/reward_model_tokens"], row["frac_cut_off"]) == (4.0, 3.0, 0.0)
    assert [row["learning_rate"] for row in table[1:5]] == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])


def test_tokens_of_the_environments_engine_are_counted(whole):
    # 8 episodes of 10 tokens per step; actions are not tokens.
    assert [row["tokens"] for row in rows(whole)[1:5]] == [80, 160, 240, 320]
    (first, *_) = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()][1:2]
    assert first["time/tokens_per_second"] == pytest.approx(80 / first["time/generate"])
    assert (rows(whole)[0]["eval/mean_tokens"], rows(whole)[0]["eval/mean_reward_model_tokens"]) == (10.0, 3.0)


def test_choices_record_the_version_of_their_weights(tmp_path):
    trainer = make_run(tmp_path / "run", "steps=2", "eval_every=0")
    seen = []
    original = trainer.run.policy.act

    async def act(*args, **options):
        choices = await original(*args, **options)
        seen.extend(choice.policy_version for choice in choices)
        return choices

    trainer.run.policy.act = act
    train(trainer)
    assert seen == [0] * 32 + [1] * 32


# --- interrupted and resumed


def test_interrupted_run_resumes_exactly(whole, tmp_path, monkeypatch):
    folder, original = tmp_path / "run", Learner.update

    def interrupted(self, trajectories, step):
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(self, trajectories, step)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", interrupted)
        assert train(make_run(folder)) == signal.SIGTERM
    assert rows(folder)[-1]["step"] == 3
    assert train(make_run(folder, resuming=True)) is None
    assert_same_run(folder, whole)


def test_new_run_can_start_from_a_checkpoint(whole, tmp_path):
    start = build(resolve(compose_config([*OPTIONS, f"init_from={whole / 'checkpoints' / 'step_4'}"])))
    trained = load_run(str(whole)).policy.state_tensors()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in start.policy.state_tensors().items())


# --- evaluation


def evaluate(tmp_path, *arguments):
    path = tmp_path / "result.json"
    main([*arguments, "tasks=4", "samples=2", f"output_file={path}"])
    return json.loads(path.read_text())


def test_evaluate_command_plays_sampled_and_greedy(whole, tmp_path, capsys):
    sampled = evaluate(tmp_path, f"run={whole}")
    assert "tokens/episode     10.0" in capsys.readouterr().out
    greedy = evaluate(tmp_path, f"run={whole}", "temperature=0")
    assert sampled["result"]["mean_tokens"] == greedy["result"]["mean_tokens"] == 10.0
    assert sampled["answers"][0]["responses"] != greedy["answers"][0]["responses"]
    assert greedy["result"]["reward"] > sampled["result"]["reward"]


# --- who gets the engine


def asking(arguments):
    return build(resolve(compose_config(arguments)))


@pytest.fixture
def engines(monkeypatch):
    """Replaces engines by records of their configurations."""
    built = []

    def make(spec, **options):
        built.append(spec if not options else {"name": spec, **options})
        return ScriptedEngine("")

    monkeypatch.setattr("agents.training.build.make_engine", make)
    return built


TREE = ("env=reason_tree", "reward_model=random", "eval_every=0")


def test_engine_is_the_generator_of_the_tree(engines):
    run = asking([*TREE, "engine=transformers", "engine.max_batch_size=7", "placement.generator=cuda:0"])
    assert (run.plan.config.algo.name, run.plan.config.policy.name) == ("ppo", "graph")
    (spec,) = engines
    assert (spec["name"], spec["max_batch_size"], spec["device"]) == ("transformers", 7, "cuda:0")
    assert (run.environment.grower.engine,) == run.engines
    assert run.environment.grower.reward_model is run.reward_model


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.engine={name: vllm}"], r"env\.engine=.*is not used in a run: set engine= instead"),
        (["env.reward_model=random"], r"env\.reward_model='random' is not used in a run: set reward_model= instead"),
        (["env.device=cpu"], r"env\.device='cpu' is not used in a run: set placement"),
        (["placement.reward_model=cpu"], r"has no effect: reward_model=random runs on no device"),
        (
            ["placement.policy=cuda:1", "policy.device=cpu"],
            r"placement\.policy='cuda:1' contradicts policy\.device='cpu'",
        ),
        (
            ["placement.generator=cpu", "policy=language"],
            r"placement\.generator='cpu' has no effect with policy=language",
        ),
    ],
)
def test_parts_refuse_a_second_configuration(overrides, message, engines):
    with pytest.raises(ReasonEnvsError, match=message):
        asking([*TREE, *overrides])
    assert engines == []


def test_environment_without_a_generator_gets_no_engine(engines):
    run = asking(OPTIONS)
    assert (run.engines, run.reward_model, engines) == ((), None, [])
    run.close()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ("grpo", "language")),
        (["env=reason_tree"], ("ppo", "graph")),
        (["env=reason_tree", "algo=grpo"], ("grpo", "graph")),
        (["env=reason_tree", "policy=language"], ("ppo", "language")),
        (["algo=ppo", "policy=graph"], ("ppo", "graph")),
    ],
)
def test_environment_recommends_its_parts(overrides, expected):
    config = compose_config(overrides)
    assert (config.algo.name, config.policy.name) == expected


def test_run_refuses_a_graph_policy_without_trees():
    with pytest.raises(ReasonEnvsError, match="policy=language"):
        asking(["algo=ppo", "policy=graph", "eval_every=0"])
    assert isinstance(compose_config(["algo=ppo"]).algo, PPOConfig)


# --- the search tree


def test_search_tree_run_resumes_exactly(tiny_model, tmp_path):
    options = (
        *("env=reason_tree", "reward_model=random", f"engine.model={tiny_model}", "engine.device=cpu"),
        *(
            "policy.channels=8",
            "env.max_step_tokens=4",
            "env.max_depth=3",
            "env.tasks={name: chain_sum, max_samples: 9}",
        ),
        *("steps=2", "algo.tasks_per_step=4", "eval_every=0", "save_every=1"),
    )

    def make(name, *more, resuming=False):
        return make_trainer([*options, f"output_dir={tmp_path / name}", *more], resuming=resuming)

    assert asyncio.run(make("whole").train()) is None
    asyncio.run(make("parts", "steps=1").train())
    asyncio.run(make("parts", resuming=True).train())
    ours, theirs = rows(tmp_path / "parts"), rows(tmp_path / "whole")
    assert ours == theirs
    assert ours[1]["tokens"] > ours[0]["tokens"] > 4
    main([f"run={tmp_path / 'whole'}", "tasks=2", "samples=1", "temperature=0"])
