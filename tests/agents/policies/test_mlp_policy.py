"""The multi-layer perceptron: every learner, including Stable-Baselines3, on observations of a fixed size."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graph_toys import make_decision
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text
from toys import Toy
from tree_toys import make_tree, play
from value_toys import SignalConfig, Signals

from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.ppo import PPOConfig
from agents.config.compose import compose_config
from agents.policies.mlp import MLPPolicy, MLPPolicyConfig
from agents.registry import ALGORITHMS
from agents.rollout import episodes as rollout
from agents.rollout.episodes import grouped
from agents.train import train
from reason_envs import registration
from reason_envs.errors import ReasonEnvsError

SB3 = {"n_envs": 8, "n_steps": 16, "batch_size": 32, "n_epochs": 4, "learning_rate": 1e-2}
OURS = {"tasks_per_step": 8, "samples_per_task": 4, "optimizer": OptimizerConfig(learning_rate=2e-2)}


class Steady(Signals):
    """Shows signals that depend on the seed, so that forks show the same ones."""

    def fork(self, seed=None):
        return super().fork()


class Masked(Signals):
    """Allows two of the three actions, one of them right."""

    def action_masks(self):
        mask = np.ones(3, np.bool_)
        mask[(self.signal + 1) % 3] = False
        return mask


class Mixed(Signals):
    """Shows the signal as a Dict of different spaces."""

    def __init__(self, config=None):
        super().__init__(config)
        parts = {"b": Discrete(3), "a": Box(0, 255, (2, 2), np.uint8), "c": MultiDiscrete([2, 4]), "d": MultiBinary(2)}
        self._observation_space = Dict(parts)

    def observe(self):
        image = np.full((2, 2), 100 + self.state.turn, np.uint8)
        digits = np.array([self.state.turn % 2, self.state.turn % 4])
        return {"b": int(self.signal), "a": image, "c": digits, "d": np.array([1, 0], np.int8)}


def make_policy(env, seed=0, **options):
    return MLPPolicy(
        MLPPolicyConfig(**{"width": 16, "layers": 1, "device": "cpu", **options}), seed=seed, environment=env
    )


def make_learner(name, env, **options):
    options = {**(SB3 if name.startswith("sb3") else OURS), **options}
    config = ALGORITHMS[name].config_class()(**options)
    return ALGORITHMS[name].load()(config, make_policy(env), env, env.tasks, total_steps=30, seed=0)


def hits(env, policy):
    """Return the share of signals that the policy names."""
    plan = grouped([env.tasks[i] for i in range(32)], 1, seed=9)
    return np.mean([t.total_reward for t in asyncio.run(rollout.play(env, policy, plan))]) / env.config.turns


@pytest.mark.parametrize("name", ["ppo", "grpo", "at_grpo", "sb3_ppo"])
def test_mlp_policy_learns_with_every_learner(name):
    env = Steady()
    learner = make_learner(name, env)
    before = hits(env, learner.policy)
    for step in range(30):
        learner.update(asyncio.run(learner.collect(step)), step)
    assert before < 0.6
    assert hits(env, learner.policy) > 0.9


@pytest.mark.parametrize("name", ["sb3_ppo", "sb3_maskable_ppo"])
def test_mlp_policy_and_stable_baselines_compute_the_same_function(name):
    env = Mixed() if name == "sb3_ppo" else Masked()
    learner = make_learner(name, env, n_steps=16)
    asyncio.run(learner.collect(0))
    observation = asyncio.run(env.reset(seed=4)).observations["watcher"]
    batch, _ = learner.model.policy.obs_to_tensor(observation)
    with torch.no_grad():
        ours = learner.policy.evaluate([make_decision(learner.policy.observe(env, observation), action=env.signal)])
        masks = {} if name == "sb3_ppo" else {"action_masks": env.action_masks()}
        values, log_probs, _ = learner.model.policy.evaluate_actions(batch, torch.tensor([env.signal]), **masks)
    torch.testing.assert_close(ours.values, values)
    torch.testing.assert_close(ours.log_probs.flatten(), log_probs)


def test_maskable_ppo_samples_every_action_without_masks():
    learner = make_learner("sb3_maskable_ppo", Signals())
    trajectories = asyncio.run(learner.collect(0))
    assert {d.choice.token_ids[0] for t in trajectories for d in t.decisions} == {0, 1, 2}


@pytest.mark.parametrize("turns", [1, 4])
def test_ppo_defaults_accept_episodes_of_equal_length(turns):
    """PPO's default mini-batch of 512 does not divide 192 or 768 decisions, and is accepted."""
    env = Steady(SignalConfig(turns=turns))
    env.decisions_per_episode = turns
    learner = ALGORITHMS["ppo"].load()(PPOConfig(), make_policy(env), env, env.tasks, total_steps=1, seed=0)
    metrics = learner.update(asyncio.run(learner.collect(0)), 0)
    assert metrics["loss_tokens"] == PPOConfig().epochs_per_batch * PPOConfig().tasks_per_step * turns
    with pytest.raises(ReasonEnvsError, match=r"minibatch_size=100 must divide"):
        ALGORITHMS["ppo"].load()(PPOConfig(minibatch_size=100), make_policy(env), env, env.tasks, total_steps=1, seed=0)


def test_mlp_policy_never_chooses_a_masked_action():
    env = Masked()
    learner = make_learner("grpo", env)
    trajectories = asyncio.run(learner.collect(0))
    wrong = [
        (d.observation["flat"][:3].argmax() + 1) % 3 == d.choice.token_ids[0] for t in trajectories for d in t.decisions
    ]
    assert len(wrong) == 8 * 4 * 4
    assert not any(wrong)


def test_mlp_policy_reads_trees_and_their_masks():
    env = make_tree()
    policy = make_policy(env)
    stored = policy.observe(env, play(env, [])[-1].observations["searcher"])
    assert stored["action_mask"].tolist() == [1, 0, 0, 0]
    (choice,) = asyncio.run(policy.act([stored], [3]))
    assert choice.text == "EXPAND"


def test_from_pretrained_restores_an_mlp_policy(tmp_path):
    env = Signals()
    policy = make_policy(env, seed=5)
    policy.save_pretrained(tmp_path)
    loaded = MLPPolicy.from_pretrained(tmp_path, environment=env, device="cpu")
    assert loaded.config == policy.config
    assert all(torch.equal(t, loaded.state_tensors()[n]) for n, t in policy.state_tensors().items())
    with pytest.raises(ReasonEnvsError, match="do not fit this policy"):
        make_policy(env, width=8).load_state_tensors(policy.state_tensors())


def spaced(observation, action):
    """Return what a policy reads of an environment with these spaces."""
    return SimpleNamespace(agents=("a",), observation_space=lambda _: observation, action_space=lambda _: action)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_policy(Toy()), r"observations of a fixed size .*not text.*use policy=language"),
        (lambda: make_policy(spaced(Dict({"a": Text(3)}), Discrete(2))), "observations of a fixed size"),
        (lambda: make_policy(spaced(Box(0, 1, (2,)), Box(0, 1, (2,)))), r"Discrete action space .* not Box"),
        (lambda: make_policy(spaced(Box(0, 1, (2,)), Discrete(2, start=1))), "number the actions from 0"),
        (lambda: MLPPolicyConfig(layers=0), "layers=0"),
    ],
)
def test_mlp_policy_refuses_spaces_and_options_that_do_not_fit(make, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make()


@pytest.mark.parametrize("name", ["sb3_ppo", "at_grpo"])
def test_registered_environment_trains_from_the_command_line(name, tmp_path):
    if "signals" not in registration.ENVIRONMENTS.names():
        registration.register("Signals-v0", Signals, SignalConfig)
    options = ["env=signals", "policy=mlp", "policy.device=cpu", f"algo={name}", "steps=2", "eval_tasks=4"]
    sizes = [f"algo.{key}={value}" for key, value in SB3.items()] if name == "sb3_ppo" else ["algo.tasks_per_step=4"]
    train(compose_config([*options, *sizes, f"output_dir={tmp_path / 'run'}"]))
    assert (tmp_path / "run" / "policy_final" / "model.safetensors").is_file()
