"""Stable-Baselines3's PPO on the network of a graph policy: one network, whole episodes, complete runs."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from graph_toys import make_decision
from run_toys import checkpoints, final_weights, make_trainer, rows, train
from tree_toys import BACKTRACK, Sums, make_tree
from value_toys import SignalConfig, Signals

from agents.algorithms.options import SB3PPOConfig
from agents.policies.graph import GraphPolicy, GraphPolicyConfig
from agents.policies.mlp import MLPPolicy, MLPPolicyConfig
from agents.registry import ALGORITHMS
from agents.rollout.episodes import grouped, play
from agents.tracking.episode_metrics import describe
from agents.training.state_tree import flatten, unflatten
from reason_envs.batching import MicroBatcher
from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, ReasonEnvsError

NAMES = ("sb3_ppo", "sb3_maskable_ppo")
BOTH = pytest.mark.parametrize("name", NAMES)
SMALL = {"max_depth": 3, "max_nodes": 8, "max_steps": 8}


def make_learner(name, seed=0, env=None, policy=None, **options):
    env = env or make_tree(**SMALL)
    policy = policy or GraphPolicy(GraphPolicyConfig(channels=8, layers=1, device="cpu"), seed=seed, environment=env)
    config = SB3PPOConfig(**{"n_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 2, **options})
    return ALGORITHMS[name].load()(config, policy, env, Sums(), total_steps=10, seed=seed)


def run_step(learner, step):
    trajectories = asyncio.run(learner.collect(step))
    return trajectories, learner.update(trajectories, step)


def weights(learner):
    return {name: tensor.clone() for name, tensor in learner.policy.state_tensors().items()}


@BOTH
def test_sb3_trains_the_network_of_the_policy(name):
    learner = make_learner(name)
    before = weights(learner)
    _, metrics = run_step(learner, 0)
    after = weights(learner)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert {"actor.weight", "critic.weight", "embed.weight"} <= moved
    trained = {id(p) for group in learner.model.policy.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in learner.policy.parameters()}
    assert {"loss", "value_loss", "approx_kl", "clip_frac", "explained_variance"} <= set(metrics)
    assert metrics["env_steps"] == 64


def test_sb3_and_policy_compute_the_same_function():
    learner = make_learner("sb3_maskable_ppo")
    run_step(learner, 0)
    (buffer,) = learner.model.rollout_buffer.get()
    with torch.no_grad():
        values, log_probs, entropy = learner.model.policy.evaluate_actions(
            buffer.observations, buffer.actions.long().flatten(), action_masks=buffer.action_masks
        )
        rows = [{key: part[i].numpy() for key, part in buffer.observations.items()} for i in range(len(log_probs))]
        env = learner.environments.environments[0]
        decisions = [
            make_decision(learner.policy.observe(env, row), int(action))
            for row, action in zip(rows, buffer.actions, strict=True)
        ]
        ours = learner.policy.evaluate(decisions)
    torch.testing.assert_close(ours.log_probs.flatten(), log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.entropy.flatten(), entropy, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.values, values, atol=1e-5, rtol=0)


@BOTH
def test_collect_returns_whole_episodes(name):
    learner = make_learner(name)
    seen = []
    for step in range(3):
        trajectories, _ = run_step(learner, step)
        seen += trajectories
    assert len({t.episode_id for t in seen}) == len(seen) > 10
    for trajectory in seen:
        assert 1 <= len(trajectory.decisions) <= 8
        assert trajectory.truncated != trajectory.terminated
        assert [d.turn for d in trajectory.decisions] == list(range(len(trajectory.decisions)))
        assert trajectory.decisions[-1].choice.text == "TERMINATE" or trajectory.truncated
        assert {"correct", "generated_tokens", "path_value"} <= set(trajectory.metrics)
        assert trajectory.generated_tokens == trajectory.metrics["generated_tokens"]
        # Rewards telescope: the value's changes cancel, so the costs and the final reward remain.
        paid = sum(d.reward for d in trajectory.decisions)
        assert paid <= trajectory.metrics["path_value"] - 1 + 0.5
    assert {t.truncated for t in seen} == {True, False} or name == "sb3_maskable_ppo"


def test_sb3_episodes_have_the_metrics_of_rollouts():
    """NumPy's booleans are metrics too; the additions of Stable-Baselines3 to the info are not."""
    env = Signals(SignalConfig(turns=2))
    policy = MLPPolicy(MLPPolicyConfig(device="cpu"), environment=env)
    theirs, _ = run_step(make_learner("sb3_ppo", env=env, policy=policy), 0)
    ours = asyncio.run(play(env, policy, grouped([env.tasks[0]], 1, seed=0)))
    assert theirs[0].metrics.keys() == ours[0].metrics.keys() == {"correct", "generated_tokens", "reward_model_tokens"}
    assert "accuracy" in describe(theirs)


def test_maskable_ppo_never_chooses_illegal_actions():
    illegal = {}
    for name in NAMES:
        decisions = [d for t in run_step(make_learner(name), 0)[0] for d in t.decisions]
        illegal[name] = sum(d.turn == 0 and d.choice.token_ids[0] == BACKTRACK for d in decisions)
    assert illegal["sb3_maskable_ppo"] == 0 < illegal["sb3_ppo"]


@BOTH
def test_sb3_runs_depend_on_the_seed_and_restore_global_generators(name):
    first, again, other = (make_learner(name, seed=seed) for seed in (0, 0, 1))
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    expected = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    a = [run_step(first, step)[1] for step in range(2)]
    found = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(found[0], expected[0])
    assert found[1:] == expected[1:]
    torch.rand(5)
    assert [run_step(again, step)[1] for step in range(2)] == a
    assert [run_step(other, step)[1] for step in range(2)] != a


def test_maskable_ppo_learns_when_to_stop():
    """Half of the steps are right, and scores tell which: branch until the score is high, then submit."""

    def script(request, seed):
        return "\\boxed{6}\n" if seed % 2 else "\\boxed{7}\n"

    def scores(question, steps):
        return [0.9 if "6" in step else 0.1 for step in steps]

    env = make_tree(
        script=script,
        scores=scores,
        reward=lambda response, task: (float("6" in response), {"correct": "6" in response}),
        branch_cost=0.05,
        max_steps=10,
    )
    options = {"n_envs": 16, "n_steps": 32, "batch_size": 64, "n_epochs": 6, "learning_rate": 5e-3}
    learner = make_learner("sb3_maskable_ppo", env=env, **options)
    returns = [np.mean([sum(d.reward for d in t.decisions) for t in run_step(learner, i)[0]]) for i in range(9)]
    assert returns[0] < 0.1
    assert np.mean(returns[-2:]) > 0.7  # branching until the score is high has a return of about 0.85


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_learner("sb3_ppo", gamma=0.99), r"algo\.gamma=0\.99.*Set algo\.gamma=1\.0"),
        (lambda: make_learner("sb3_ppo", policy=object()), "cannot train object: use policy=graph .* policy=mlp"),
        (lambda: make_learner("sb3_ppo", n_envs=0), r"n_envs=0"),
        (lambda: make_learner("sb3_ppo", n_envs=1, n_steps=1), "n_steps=1 must be above 1 if n_envs=1"),
        (lambda: SB3PPOConfig(gamma=1.5), r"^gamma=1\.5 must lie in \[0, 1\]"),
        (lambda: SB3PPOConfig(gae_lambda=-0.1), r"^gae_lambda=-0\.1 must lie in \[0, 1\]"),
        (lambda: SB3PPOConfig(clip_range=-1.0), r"^clip_range=-1\.0 must be at least 0"),
        (lambda: SB3PPOConfig(learning_rate=-1.0), r"^learning_rate=-1\.0 must be at least 0"),
        (lambda: SB3PPOConfig().tasks_per_step, "epochs= cannot be used"),
        (
            lambda: run_step(make_learner("sb3_ppo", n_steps=1, batch_size=4), 0),
            r"No episode ended within algo\.n_steps=1",
        ),
    ],
)
def test_sb3_refuses_wrong_use(make, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make()


def test_sb3_options_do_not_load_the_library():
    code = "import sys; from agents.config.compose import compose_config as c; c(['env=reason_tree', 'algo=sb3_ppo'])\n"
    code += "assert 'stable_baselines3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


TREE = (
    *("env=reason_tree", "algo=sb3_maskable_ppo", "reward_model=random", "engine.device=cpu", "policy.device=cpu"),
    *("env.tasks={name: chain_sum, max_samples: 20}", "env.max_depth=3", "env.max_nodes=8", "env.max_step_tokens=8"),
    *("algo.n_envs=4", "algo.n_steps=16", "algo.batch_size=16", "policy.channels=8", "eval_tasks=3", "save_every=1"),
)


def test_sb3_run_can_be_resumed(tiny_model, tmp_path):
    options = [*TREE, f"engine.model={tiny_model}"]
    train(make_trainer([*options, "steps=3", f"output_dir={tmp_path / 'whole'}"]))
    folder = tmp_path / "stopped"
    options.append(f"output_dir={folder}")
    train(make_trainer([*options, "steps=2"]))
    resumed = make_trainer([*options, "steps=3"], resuming=True)
    train(resumed)
    assert checkpoints(folder)[-1] == "step_3"
    trained, whole = ([row for row in rows(each) if "loss" in row] for each in (folder, tmp_path / "whole"))
    assert trained == whole
    assert [row["env_steps"] for row in trained] == [64, 128, 192]
    assert "eval/accuracy" in rows(folder)[-1]
    saved = GraphPolicy.from_pretrained(folder / "policy_final", environment=resumed.run.environment, device="cpu")
    expected = resumed.run.policy.state_tensors()
    assert all(torch.equal(tensor, expected[n]) for n, tensor in saved.state_tensors().items())
    weights_of = [final_weights(each) for each in (folder, tmp_path / "whole")]
    assert all(torch.equal(tensor, weights_of[1][name]) for name, tensor in weights_of[0].items())


class Batched(Signals):
    """Episodes of different lengths whose observations depend slightly on the batches that computed them."""

    def __init__(self, config=None):
        super().__init__(config)
        self.ask = MicroBatcher(lambda requests: [len(requests)] * len(requests))

    def observe(self):
        observation = super().observe()
        observation[3] += getattr(self.state, "rounding", 0.0)
        return observation

    async def step(self, actions):
        batch = await self.ask(None)
        self.state.rounding = getattr(self.state, "rounding", 0.0) + 1e-4 * batch
        if derive_seed(self.state.seed, self.state.turn, "end") % 5 == 0:
            self.state.turn = self.config.turns - 1
        return await super().step(actions)


def make_batched(name, seed=0):
    env = Batched(SignalConfig(turns=9))
    policy = MLPPolicy(MLPPolicyConfig(device="cpu"), seed=seed, environment=env)
    return make_learner(name, env=env, policy=policy, seed=seed, n_steps=5, batch_size=10)


def restore(learner, saved):
    """Give a new learner the weights and the optimizer of another one, as a checkpoint stores them."""
    tensors, structure = flatten(saved.optimizer.state_dict())
    learner.policy.load_state_tensors(saved.policy.state_tensors())
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    learner.optimizer.load_state_dict(unflatten(tensors, json.loads(json.dumps(structure))))
    return learner


@BOTH
@pytest.mark.parametrize("make", [make_batched, lambda name, seed: make_learner(name, seed, n_steps=7, batch_size=14)])
@pytest.mark.parametrize("seed", range(2))
def test_sb3_resumes_in_the_middle_of_episodes(name, make, seed):
    whole, resumed = make(name, seed=seed), make(name, seed=seed)
    is_open = []
    for step in range(6):
        assert run_step(resumed, step) == run_step(whole, step)
        is_open += [bool(slot["open"]) for slot in resumed.state_dict()["episodes"]["played"]]
        resumed = restore(make(name, seed=seed), resumed)
    assert {True, False} == set(is_open)
    assert all(torch.equal(tensor, weights(whole)[n]) for n, tensor in weights(resumed).items())


def test_sb3_checkpoint_does_not_grow_with_the_run():
    learner = make_batched("sb3_ppo")
    for step in range(30):
        run_step(learner, step)
        slots = learner.state_dict()["episodes"]["played"]
        assert all(sum(map(len, slot["past"])) <= 18 for slot in slots)  # twice the longest episode
    assert min(slot["ended"] for slot in slots) > 10


def test_sb3_starts_new_episodes_if_the_environment_gives_other_answers(caplog):
    saved = make_learner("sb3_ppo")
    run_step(saved, 0)
    changed = make_tree(**SMALL, script=lambda request, seed: f"{seed % 9}\n")
    resumed = restore(make_learner("sb3_ppo", env=changed), saved)
    assert run_step(resumed, 1)[0][0].episode_id == "sb3/1"
    assert "New episodes start, so this run differs" in caplog.text


def test_sb3_older_checkpoints_start_new_episodes():
    saved = make_learner("sb3_ppo")
    run_step(saved, 0)
    state = {name: part for name, part in saved.optimizer.state_dict().items() if name != "episodes"}
    resumed = make_learner("sb3_ppo")
    resumed.optimizer.load_state_dict(state)
    trajectories, metrics = run_step(resumed, 1)
    assert trajectories[0].episode_id == "sb3/1"
    assert metrics["env_steps"] == 128


def test_sb3_checkpoint_after_a_failed_rollout_is_that_of_the_last_step():
    whole, failing = (make_learner("sb3_ppo", n_steps=7, batch_size=14) for _ in range(2))
    run_step(whole, 0)
    run_step(failing, 0)
    engine, calls = failing.environments.environments[0].grower.engine, []

    async def fail(request):
        calls.append(request)
        if len(calls) > 9:
            raise EngineError("down")
        return await type(engine).generate(engine, request)

    engine.generate = fail
    with pytest.raises(EngineError):
        run_step(failing, 1)
    resumed = restore(make_learner("sb3_ppo", n_steps=7, batch_size=14), failing)
    assert run_step(resumed, 1) == run_step(whole, 1)


def test_sb3_counts_an_update_that_fails(monkeypatch):
    """Otherwise weights between two optimizer steps would be saved as those of a complete step."""
    learner = make_learner("sb3_ppo")
    trajectories = asyncio.run(learner.collect(0))

    def fail():
        raise KeyboardInterrupt

    monkeypatch.setattr(learner.model, "train", fail)
    with pytest.raises(KeyboardInterrupt):
        learner.update(trajectories, 0)
    assert learner.optimizer.steps == 1
