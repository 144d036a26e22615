"""PPO for language policies: values, gradients and files of the value head, and exact resuming."""

import asyncio
import json
import signal
from dataclasses import replace

import pytest
import torch
from language_toys import make_decision, make_policy, mixed_decisions, problems, single_turn
from role_toys import Relay, RelayConfig
from run_toys import assert_same_run, final_weights, make_run, rows, train
from safetensors.torch import load_file
from toys import Toy, ToyConfig

from agents.algorithms.learner import Learner
from agents.algorithms.optimizer import OptimizerConfig
from agents.algorithms.ppo import PPO, PPOConfig
from agents.algorithms.sample import SampledTrajectory
from agents.config.compose import compose_config
from agents.evaluate import main
from agents.policies.language import LanguagePolicyConfig
from agents.policies.lora import adapter_weights
from agents.policies.roles import RolePolicy
from agents.training.build import load_run
from agents.trajectory import Trajectory
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.llm.loading import load_model

LORA = {"lora_rank": 4}
ROLES = ("scout", "digger")
KINDS = {"full": {}, "lora": LORA}


def with_values(model, scale=0.3, **options):
    """Return a policy with a value head that is not zero."""
    policy = make_policy(model, **options)
    policy.prepare_values()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.value_parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return policy


def learner(policy, **options):
    async def nothing(response, task, seed):
        return 0.0

    config = PPOConfig(**{"tasks_per_step": 2, "minibatch_size": None, "optimizer": OptimizerConfig(1e-3), **options})
    tasks = problems(2)
    return PPO(config, policy, single_turn(tasks, nothing), tasks, total_steps=3, seed=0)


def episode(decisions):
    return Trajectory("t", "e", decisions, True, False)


def paid_decisions(count=5):
    return [replace(d, turn=i, reward=(-1.0) ** i * (1 + i / 4)) for i, d in enumerate(mixed_decisions(count))]


# --- the values


@pytest.mark.parametrize("kind", KINDS)
def test_value_is_read_at_the_state_before_its_token(tiny_model, kind):
    policy = with_values(tiny_model, **KINDS[kind])
    decisions = mixed_decisions()
    with torch.no_grad():
        out = policy.evaluate(decisions)
        for row, decision in zip(out.values, decisions, strict=True):
            prompt, chosen = decision.choice.prompt_ids, decision.choice.token_ids
            states = policy.model(torch.tensor([prompt + chosen]), output_hidden_states=True).hidden_states[-1][0]
            expected = policy.value_head.linear(states[len(prompt) - 1 : -1]).flatten()
            assert torch.allclose(row[: len(chosen)], expected, atol=1e-5)
    assert not out.values[~out.mask].any()
    assert out.values.dtype == torch.float32


def test_values_are_missing_until_prepared_and_start_at_zero(tiny_model):
    policy = make_policy(tiny_model)
    before = dict(policy.named_parameters()).keys()
    assert policy.evaluate([make_decision()]).values is None
    learner(policy)
    assert policy.evaluate([make_decision()]).values.tolist() == [[0.0] * 4]
    names = dict(policy.named_parameters()).keys()
    assert names - before == {"value_head.linear.weight", "value_head.linear.bias"}


def test_values_need_no_second_forward_pass(tiny_model, monkeypatch):
    passes = []

    def count(policy):
        policy.model.base_model.register_forward_hook(lambda *_: passes.append(1))
        policy.evaluate(mixed_decisions())
        return passes.count(1)

    without = count(make_policy(tiny_model))
    passes.clear()
    assert count(with_values(tiny_model)) == without == 1


def test_reference_has_no_values(tiny_model):
    policy = with_values(tiny_model, reference_device="cpu")
    policy.prepare_reference()
    with policy.reference():
        assert policy.evaluate([make_decision()]).values is None


@pytest.mark.parametrize("kind", KINDS)
def test_value_loss_has_gradients_in_head_and_backbone(tiny_model, kind):
    policy = with_values(tiny_model, **KINDS[kind])
    policy.evaluate(mixed_decisions()).values.sum().backward()
    reached = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"value_head.linear.weight", "value_head.linear.bias"} < reached
    # A new adapter has one zero factor, so the gradient of the other factor is zero.
    wanted = "lora_B" if kind == "lora" else "layers.0.self_attn.q_proj.weight"
    assert any(wanted in name for name in reached)


# --- the update


def loss_gradients(policy, level, **options):
    """Return the gradients and metrics of one update, and its samples."""
    ppo = learner(policy, gae_level=level, lam=0.5, gamma=0.9, entropy_coef=0.0, **options)
    played = SampledTrajectory.of(episode(paid_decisions()))
    ppo.evaluate(played.samples)
    credited, metrics = ppo.credit([played])
    seen = {}
    ppo.optimizer.step = lambda: seen.update((n, p.grad.clone()) for n, p in policy.named_parameters()) or {}
    return seen, credited, metrics | ppo.policy_update.run(credited, 0)


@pytest.mark.parametrize("level", ["token", "turn"])
def test_ppo_loss_equals_a_computation_by_hand(tiny_model, level):
    policy = with_values(tiny_model)
    ours, credited, metrics = loss_gradients(policy, level, epochs_per_batch=1, value_coef=0.7)
    policy_terms, value_terms = [], []
    for sample in credited:
        out = policy.evaluate([sample.decision])
        policy_terms.append(sample.advantage * (out.log_probs[0] - sample.old_log_probs).exp())
        values = out.values[0, :1] if level == "turn" else out.values[0]
        value_terms.append((values - sample.returns).square() / 2)
        if level == "turn":
            assert len(set(sample.advantage.tolist())) == len(sample.returns) == 1
    value_loss = torch.cat(value_terms).mean()
    loss = -torch.cat(policy_terms).mean() + 0.7 * value_loss
    named = dict(policy.named_parameters())
    policy.model.zero_grad()
    expected = torch.autograd.grad(loss, list(named.values()))
    assert metrics["value_loss"] == pytest.approx(value_loss.item(), abs=1e-5)
    for name, gradient in zip(named, expected, strict=True):
        assert torch.allclose(ours[name], gradient, atol=1e-5), name


@pytest.mark.parametrize("level", ["token", "turn"])
@pytest.mark.parametrize("cut", [{"micro_batch_size": 1}, {"micro_batch_tokens": 40}])
def test_micro_batches_give_the_same_value_update(tiny_model, level, cut):
    whole, _, expected = loss_gradients(with_values(tiny_model), level, epochs_per_batch=1)
    parts, _, metrics = loss_gradients(with_values(tiny_model), level, epochs_per_batch=1, **cut)
    assert all(torch.allclose(parts[name], whole[name], atol=1e-5) for name in whole)
    assert metrics["value_loss"] == pytest.approx(expected["value_loss"], abs=1e-5)


def test_truncated_stream_bootstraps_at_its_next_prompt(tiny_model):
    """In an environment of three turns, the value after the end is that of the fourth prompt."""
    policy = with_values(tiny_model, max_tokens=3)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    environment = Toy(ToyConfig(truncate=True))
    config = PPOConfig(tasks_per_step=1, lam=1.0, gae_level="turn", normalise_advantages=False)
    ppo = PPO(config, policy, environment, problems(1), total_steps=1, seed=0)
    (played,) = asyncio.run(ppo.collect(0))
    sampled = SampledTrajectory.of(played)
    ppo.evaluate(sampled.samples)
    credited, _ = ppo.credit([sampled])
    assert [d.turn for d in played.decisions] == [0, 1, 2]
    prompt = encode_prompt(policy.tokenizer, played.final_observations["solver"])
    with torch.no_grad():
        last = policy.model(torch.tensor([prompt]), output_hidden_states=True).hidden_states[-1][0, -1]
        beyond = float(policy.value_head.linear(last))
    assert beyond != pytest.approx(0.0, abs=1e-3)
    rewards = [d.reward for d in played.decisions]
    for turn, sample in enumerate(credited):
        expected = sum(rewards[turn:]) + beyond
        assert sample.returns.tolist() == pytest.approx([expected], abs=1e-5)
        value = float(sample.old_values[0])
        assert sample.advantage.tolist() == pytest.approx([expected - value] * len(sample.old_values), abs=1e-5)


# --- roles


def role_policy(model, sharing):
    options = {"lora_rank": 4} if sharing == "lora_per_role" else {}
    return RolePolicy(LanguagePolicyConfig(model=model, device="cpu", sharing=sharing, **options), ROLES, seed=0)


@pytest.mark.parametrize("sharing", ["lora_per_role", "model_per_role"])
def test_value_head_of_a_role_learns_from_its_own_decisions_only(tiny_model, sharing):
    """The result is bit for bit as without the other role, which has many decisions with high rewards."""
    mine = [replace(d, agent="scout") for d in paid_decisions(4)]
    others = [replace(d, agent="digger", reward=20.0 + d.reward) for d in paid_decisions(7)]

    def after(decisions):
        policy, environment = role_policy(tiny_model, sharing), Relay(RelayConfig(tasks=problems(2)))
        config = PPOConfig(minibatch_size=None, optimizer=OptimizerConfig(1e-2))
        ppo = PPO(config, policy, environment, problems(2), total_steps=3, seed=0)
        metrics = ppo.update([episode([replace(d) for d in decisions])], 0)
        return {name: tensor.clone() for name, tensor in policy.state_tensors().items()}, metrics

    alone, _ = after(mine)
    together, metrics = after([*others, *mine])
    assert all(torch.equal(alone[name], together[name]) for name in alone if name.startswith("scout/"))
    heads = [together[f"{role}/value_head.linear.weight"] for role in ROLES]
    assert all(head.any() for head in heads)
    assert not torch.equal(*heads)
    assert {f"{name}/{role}" for name in ("explained_variance", "value_loss") for role in ROLES} <= metrics.keys()
    fresh = role_policy(tiny_model, sharing)
    fresh.load_state_tensors(together)
    assert all(torch.equal(tensor, together[name]) for name, tensor in fresh.state_tensors().items())
    assert [len(list(role.value_parameters())) for role in fresh.roles.values()] == [2] * len(ROLES)


# --- files and engines


@pytest.mark.parametrize("kind", KINDS)
def test_value_head_is_neither_exported_nor_saved(tiny_model, tmp_path, kind):
    policy = with_values(tiny_model, **KINDS[kind])
    policy.save_pretrained(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    sent = adapter_weights(policy.model) if kind == "lora" else policy.export_weights()
    assert not [name for name in [*sent, *policy.export_weights(), *load_file(path)] if "value" in name]
    assert policy.export_weights().keys() == load_model(tiny_model, device="cpu", dtype=None).state_dict().keys()


PPO_RUN = ("algo=ppo", "eval_every=0", "algo.value_learning_rate=1e-2", "algo.optimizer.schedule=linear")
RUNS = {
    "full": PPO_RUN,
    "lora": (*PPO_RUN, "policy.lora_rank=4", "policy.lora_dropout=0.2", "algo.kl_coef=0.05", "algo.gae_level=turn"),
}


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    """Train an uninterrupted run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, options in RUNS.items():
        assert train(make_run(tiny_model, folder / kind, *options)) is None
    return {kind: folder / kind for kind in RUNS}


@pytest.mark.parametrize("kind", RUNS)
def test_interrupted_run_resumes_exactly(whole, tiny_model, tmp_path, monkeypatch, kind):
    folder, original = tmp_path / "run", Learner.update

    def interrupted(self, trajectories, step):
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        return original(self, trajectories, step)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", interrupted)
        assert train(make_run(tiny_model, folder, *RUNS[kind])) == signal.SIGTERM
    assert train(make_run(tiny_model, folder, *RUNS[kind], resuming=True)) is None
    assert_same_run(folder, whole[kind])
    heads = [load_file(f / "checkpoints/step_4/policy.safetensors") for f in (folder, whole[kind])]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[1])
    assert heads[0]["value_head.linear.weight"].any()


@pytest.mark.parametrize("kind", RUNS)
def test_value_run_logs_its_metrics_and_saves_the_policy(whole, tiny_model, kind):
    for row in rows(whole[kind])[1:5]:
        assert {"value_loss", "explained_variance", "advantage_std", "grad_norm", "sync_gap"} <= row.keys()
    assert not [name for name in final_weights(whole[kind]) if "value_head" in name]
    if kind == "full":
        load_model(str(whole[kind] / "policy_final"), device="cpu", dtype=torch.float32)


def test_checkpoint_restores_the_value_head_in_other_commands(whole, tiny_model, tmp_path):
    head = load_file(whole["full"] / "checkpoints/step_4/policy.safetensors")["value_head.linear.weight"]
    assert torch.equal(load_run(str(whole["full"])).policy.value_head.linear.weight, head)
    main([f"run={whole['full']}", "tasks=2", "samples=1", f"output_file={tmp_path / 'r.json'}"])
    assert json.loads((tmp_path / "r.json").read_text())["answers"]
    start = f"init_from={whole['full'] / 'checkpoints' / 'step_4'}"
    compared = make_run(tiny_model, tmp_path / "grpo", "algo=grpo", "steps=1", start)
    train(compared)
    assert torch.equal(compared.run.policy.value_head.linear.weight, head)
    fresh = make_run(tiny_model, tmp_path / "ppo", "algo=ppo", f"init_from={tmp_path / 'grpo/checkpoints/step_1'}")
    assert torch.equal(fresh.run.policy.value_head.linear.weight, head)


# --- defaults


def test_ppo_defaults_depend_on_the_policy():
    text, tree = compose_config(["algo=ppo"]).algo, compose_config(["env=reason_tree"]).algo
    own = PPOConfig()
    assert (text.optimizer.learning_rate, text.lam, text.minibatch_size) == (5e-5, 1.0, None)
    assert (tree.optimizer, tree.lam, tree.minibatch_size) == (own.optimizer, own.lam, own.minibatch_size)
    assert tree.value_learning_rate is None
    planner = compose_config(["algo=ppo", "env=planner_solver"]).algo
    assert planner.optimizer.learning_rate == 6e-4
    assert compose_config(["algo=ppo", "algo.lam=0.9"]).algo.lam == 0.9
