"""Learners that update on the same episodes in one process or in several, for tests of sharded weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from language_toys import make_decision
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from agents import distributed
from agents.algorithms.at_grpo import ATGRPO
from agents.algorithms.config import OptimizerConfig
from agents.algorithms.grpo import GRPO
from agents.algorithms.options import ATGRPOConfig, GRPOConfig, PPOConfig
from agents.algorithms.ppo import PPO
from agents.policies.language import LanguagePolicy
from agents.policies.language_config import LanguagePolicyConfig, ShardingConfig
from agents.policies.roles import RolePolicy, language_parts
from agents.policies.sharding import full_tensors
from agents.training import saving
from agents.training.weight_changes import changed_weights
from agents.trajectory import Trajectory

FULL = ShardingConfig(shard="full")
LORA = {"lora_rank": 4, "lora_dropout": 0.2}
ROLES = ("coder", "tester")
CASES = {
    "grpo": (GRPO, GRPOConfig, {"kl_coef": 0.1, "minibatch_size": 7}, {}, FULL),
    "grpo_lora": (GRPO, GRPOConfig, {"epochs_per_batch": 2}, LORA, FULL),
    "grpo_offload": (GRPO, GRPOConfig, {}, {"gradient_checkpointing": True}, ShardingConfig("hybrid", "all")),
    "ppo": (PPO, PPOConfig, {"minibatch_size": 7, "value_learning_rate": 1e-2}, {}, FULL),
    "models": (ATGRPO, ATGRPOConfig, {}, {"sharing": "model_per_role"}, FULL),
    "adapters": (ATGRPO, ATGRPOConfig, {"kl_coef": 0.1}, {"sharing": "lora_per_role", **LORA}, FULL),
}
"""Algorithm, its configuration, options of learner and policy, and sharding, by name."""
STEPS = 3


def episodes():
    """Return 12 episodes of 1 decision each, with responses of very different lengths."""
    rows = []
    for i in range(12):
        decision = make_decision(4 + i % 3, 1 + 5 * i % 13, seed=i // 2, reward=float(i % 5), group=f"task {i // 4}")
        decision.agent, decision.episode_id = ROLES[i % 3 == 0], str(i)
        rows.append(Trajectory(f"task {i // 4}", str(i), [decision], terminated=True, truncated=False))
    return rows


def make_learner(model, name, *, alone):
    """Build the learner of a case; it is sharded unless it is ``alone``."""
    algorithm, config, options, policy_options, sharding = CASES[name]
    chosen, sharding = LanguagePolicyConfig(model=model, device="cpu", **policy_options), None if alone else sharding
    several = chosen.sharing != "shared"
    policy = (
        RolePolicy(chosen, ROLES, seed=0, sharding=sharding) if several else LanguagePolicy(chosen, sharding=sharding)
    )
    options = {"micro_batch_size": 3, "optimizer": OptimizerConfig(learning_rate=1e-3), **options}
    environment = SimpleNamespace(decisions_per_episode=None, discount=None)
    return algorithm(config(**options), policy, environment, None, total_steps=STEPS, seed=0)


def learn(learner, steps):
    return [learner.update(episodes(), step) for step in steps]


def exported(policy):
    """Return the weights that each part sends to its engine."""
    return {
        f"{role}/{name}": tensor.clone()
        for role, part in language_parts(policy).items()
        for name, tensor in full_tensors(part.export_weights()).items()
    }


def saver(folder, learner):
    plan = SimpleNamespace(folder=folder, config=SimpleNamespace(keep_last=1))
    return saving.Saver(plan, learner.policy, learner.optimizer)


def main(model, folder):
    """Run every case in one of the processes that the environment names."""
    saving.plain_config = vars
    distributed.start()
    for name in CASES:
        place, learner = Path(folder) / name, make_learner(model, name, alone=False)
        assert all(isinstance(parameter, DTensor) for parameter in learner.policy.parameters())
        metrics = learn(learner, range(2))
        saver(place, learner).save(saving.Progress(step=2))
        distributed.all_gather(None)
        learner = make_learner(model, name, alone=False)
        saver(place, learner).restore()
        metrics += learn(learner, range(2, STEPS))
        weights = exported(learner.policy)
        with changed_weights(learner.policy, 1.0):
            changed = exported(learner.policy)
        assert any(not changed[key].equal(tensor) for key, tensor in weights.items())
        learner.policy.save_pretrained(place / "saved")
        if distributed.rank() == 0:
            (place / "metrics.json").write_text(json.dumps(metrics))
            save_file(weights, place / "exported.safetensors")
        distributed.all_gather(None)
    distributed.stop()
