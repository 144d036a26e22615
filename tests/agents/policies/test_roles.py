"""Policies of several roles: each acts with and trains its own weights; complete runs with every sharing."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from language_toys import make_decision, problems
from role_toys import Relay, RelayConfig
from run_toys import checkpoints, make_trainer, rows
from safetensors.torch import load_file

from agents.algorithms.at_grpo import ATGRPO, ATGRPOConfig
from agents.algorithms.optimizer import OptimizerConfig
from agents.evaluate import EvaluateConfig, run_evaluation
from agents.policies.language import LanguagePolicyConfig
from agents.policies.lora import adapter_weights, merged_weights
from agents.policies.roles import RolePolicy
from agents.training.build import load_run
from agents.training.weight_sync import PolicySync
from agents.trajectory import Trajectory
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import Capability, TrainableEngine
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.llm.loading import load_model
from reason_envs.llm.weights import digest
from reason_envs.registration import register

ROLES = ("scout", "digger")
KINDS = {
    "shared": (),
    "lora_per_role": ("policy.sharing=lora_per_role", "policy.lora_rank=4"),
    "model_per_role": ("policy.sharing=model_per_role",),
}


@pytest.fixture(scope="module", autouse=True)
def _relay():
    register("Relay-v0", Relay, RelayConfig)


def make_roles(model, sharing, **options):
    if sharing == "lora_per_role":
        options = {"lora_rank": 4, **options}
    config = LanguagePolicyConfig(model=model, device="cpu", sharing=sharing, max_tokens=4, **options)
    policy = RolePolicy(config, ROLES, seed=0)
    for role in policy.roles.values():
        role.engine = TransformersEngine(model=model, device="cpu")
    return policy


def decision(agent, seed, reward=0.0, group="g"):
    made = make_decision(5, 4 + seed % 3, seed=seed, reward=reward, group=f"{group}:{agent}")
    made.agent = agent
    return made


def learner(policy, **options):
    config = ATGRPOConfig(optimizer=OptimizerConfig(learning_rate=1e-3), **options)
    environment = Relay(RelayConfig(tasks=problems(2)))
    return ATGRPO(config, policy, environment, problems(2), total_steps=4, seed=0)


def weights(policy):
    return {name: tensor.clone() for name, tensor in policy.state_tensors().items()}


def changed(before, after):
    """Return the roles whose weights differ."""
    return {name.partition("/")[0] for name in before if not torch.equal(before[name], after[name])}


# --- training


@pytest.mark.parametrize(
    ("sharing", "options"),
    [("lora_per_role", {}), ("lora_per_role", {"gradient_checkpointing": True}), ("model_per_role", {})],
)
def test_role_is_trained_on_its_own_decisions_only(tiny_model, sharing, options):
    """The result is bit for bit as without the other role, which has many long decisions with high rewards."""
    mine = [decision("scout", seed, reward=seed % 2) for seed in range(4)]
    others = [decision("digger", seed + 10, reward=50.0 * seed) for seed in range(7)]

    def after(decisions):
        policy = make_roles(tiny_model, sharing, **options)
        start = weights(policy)
        metrics = learner(policy).update([Trajectory("t", "e", decisions, True, False)], 0)
        return changed(start, weights(policy)), weights(policy), metrics

    roles, alone, _ = after(mine)
    both, together, metrics = after([*others, *mine])
    assert (roles, both) == ({"scout"}, {"scout", "digger"})
    assert all(torch.equal(alone[name], together[name]) for name in alone if name.startswith("scout/"))
    assert metrics["grad_norm/scout"] != metrics["grad_norm/digger"]
    assert metrics["loss"] == pytest.approx((metrics["loss/scout"] + metrics["loss/digger"]) / 2)


def test_adapters_of_roles_share_the_base_weights(tiny_model):
    policy = make_roles(tiny_model, "lora_per_role")
    scout, digger = (role.model for role in policy.roles.values())
    frozen = [{n: p for n, p in m.named_parameters() if ".lora_" not in n} for m in (scout, digger)]
    assert frozen[0].keys() == frozen[1].keys()
    assert all(frozen[0][name] is frozen[1][name] for name in frozen[0])
    assert len(list(policy.parameters())) == 2 * len(list(policy.roles["scout"].parameters()))
    assert not torch.equal(*(next(p for p in role.parameters() if p.any()) for role in policy.roles.values()))


def test_models_of_roles_share_no_weights(tiny_model):
    policy = make_roles(tiny_model, "model_per_role")
    scout, digger = ({id(p) for p in role.model.parameters()} for role in policy.roles.values())
    assert not scout & digger


@pytest.mark.parametrize("sharing", ["lora_per_role", "model_per_role"])
@pytest.mark.parametrize("options", [{}, {"epochs_per_batch": 2, "kl_coef": 0.1, "minibatch_size": 3}])
def test_evaluate_uses_the_weights_of_each_role(tiny_model, sharing, options):
    policy = make_roles(tiny_model, sharing)
    decisions = [decision(ROLES[i % 2], i, reward=i % 3) for i in range(8)]
    learning = learner(policy, **options)
    learning.update([Trajectory("t", "e", decisions, True, False)], 0)
    with torch.no_grad():
        together = learning.policy_update.evaluate(decisions)
        for i, one in enumerate(decisions):
            alone = policy.roles[one.agent].evaluate([one]).log_probs[0]
            assert together[i][0].tolist() == pytest.approx(alone.tolist(), abs=1e-5)
            other = policy.roles[ROLES[(i + 1) % 2]].evaluate([one]).log_probs[0]
            assert not torch.allclose(alone, other, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharing": "each"}, "sharing='each' is unknown.*model_per_role"),
        ({"sharing": "lora_per_role"}, "lora_per_role trains one adapter per role"),
        ({"sharing": "model_per_role", "lora_rank": 4}, "model_per_role all weights of each role"),
    ],
)
def test_sharing_refuses_contradicting_options(tiny_model, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        LanguagePolicyConfig(model=tiny_model, **options)


# --- acting


def act(policy, agents):
    message = [[{"role": "user", "content": "Say a word."}]] * len(agents)
    return [c.token_ids for c in asyncio.run(policy.act(message, range(len(agents)), agents=agents))]


def test_swap_roles_exchanges_the_weights_that_act(tiny_model):
    policy = make_roles(tiny_model, "model_per_role", temperature=0.5)
    with torch.no_grad():
        for parameter in policy.roles["digger"].parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    asyncio.run(PolicySync(policy).push(0))
    scout, digger = act(policy, ["scout"] * 4), act(policy, ["digger"] * 4)
    assert scout != digger
    assert act(policy, ["scout", "digger", "scout", "digger"]) == [scout[0], digger[1], scout[2], digger[3]]
    policy.swap_roles()
    assert (act(policy, ["scout"] * 4), act(policy, ["digger"] * 4)) == (digger, scout)
    policy.swap_roles({"scout": "scout"})
    assert act(policy, ["scout"] * 4) == act(policy, ["digger"] * 4) == scout


def test_swap_roles_refuses_unknown_roles_and_single_roles(tiny_model):
    policy = make_roles(tiny_model, "lora_per_role")
    with pytest.raises(ReasonEnvsError, match=r"Unknown role of swap_roles 'tester'"):
        policy.swap_roles({"scout": "tester"})
    alone = RolePolicy(policy.config, ["solver"], seed=0)
    with pytest.raises(ReasonEnvsError, match="the only role is solver"):
        alone.swap_roles()


# --- weights that arrive


def test_weight_sync_detects_roles_that_share_an_engine(tiny_model):
    """The weights of the second role replace those of the first."""
    policy = make_roles(tiny_model, "model_per_role")
    policy.roles["scout"].engine = policy.roles["digger"].engine
    sync = PolicySync(policy)
    asyncio.run(sync.canary())
    with torch.no_grad():
        next(iter(policy.roles["digger"].parameters())).add_(0.1)
    with pytest.raises(ReasonEnvsError, match=r"Role 'scout': Weights version 1 did not reach the engine"):
        asyncio.run(sync.push(1))


class Deaf(TransformersEngine):
    """Ignores new weights."""

    def load_weights(self, source, version):
        self.policy_version = version


def test_canary_names_the_role(tiny_model):
    policy = make_roles(tiny_model, "model_per_role")
    policy.roles["digger"].engine = Deaf(model=tiny_model, device="cpu")
    with pytest.raises(ReasonEnvsError, match=r"Role 'digger': Weight canary"):
        asyncio.run(PolicySync(policy).canary())


class ManyAdapters(TrainableEngine):
    """An engine that holds adapters by name, as vLLM does, with one model per adapter."""

    capabilities = frozenset({Capability.LOG_PROBS, Capability.TRAINABLE, Capability.ADAPTERS})

    def __init__(self, model, policy):
        self._policy, self._model = policy, model
        self.base = TransformersEngine(model=model, device="cpu")
        self.tokenizer, self.dtype = self.base.tokenizer, self.base.dtype
        self.loaded, self.digests, self.asked = {}, {}, []
        self.policy_version = 0

    def load_weights(self, source, version, adapter=None):
        from peft import PeftModel

        base = load_model(self._model, device=torch.device("cpu"), dtype=torch.float32)
        peft = PeftModel.from_pretrained(base, source)
        self.digests[adapter] = digest(adapter_weights(peft))
        self.loaded.setdefault(adapter, TransformersEngine(model=self._model, device="cpu"))
        self.loaded[adapter].load_weights(merged_weights(peft), 0)
        self.policy_version = version

    async def generate(self, request):
        self.asked.append(request.adapter)
        return await self.loaded[request.adapter].generate(replace(request, adapter=None))

    async def score(self, token_ids, prompt_length, temperature=1.0, adapter=None):
        return await self.loaded[adapter].score(token_ids, prompt_length, temperature)

    def weights_digest(self, adapter=None):
        return self.digests[adapter]

    def close(self):
        self.base.close()


def test_one_engine_serves_an_adapter_per_role(tiny_model):
    policy = make_roles(tiny_model, "lora_per_role")
    engine = ManyAdapters(tiny_model, policy)
    for name, role in policy.roles.items():
        role.engine = AdapterView(engine, name)
    sync = PolicySync(policy)
    asyncio.run(sync.canary())
    with torch.no_grad():
        for parameter in policy.roles["digger"].parameters():
            parameter += 0.2
    assert asyncio.run(sync.push(3))["sync_gap"] < 1e-4
    assert engine.policy_version == 3
    engine.asked.clear()  # the probes of the canary
    act(policy, ["scout", "digger"])
    assert engine.asked == ["scout", "digger"]


# --- whole runs


def run_options(model, folder, kind, *more):
    return [
        *("env=relay", "algo=at_grpo", f"policy.model={model}", f"output_dir={folder}", "policy.max_tokens=3"),
        *("policy.device=cpu", "steps=4", "algo.tasks_per_step=2", "algo.optimizer.learning_rate=1e-3"),
        *("eval_every=0", "eval_tasks=3", "save_every=2", "algo.kl_coef=0.05", "env.goal=3"),
        *KINDS[kind],
        *more,
    ]


def train(options, *, resuming=False):
    trainer = make_trainer(options, resuming=resuming)
    assert asyncio.run(trainer.train()) is None
    return trainer


@pytest.fixture(scope="module")
def runs(tiny_model, tmp_path_factory):
    """Train a complete run with each sharing."""
    folder = tmp_path_factory.mktemp("roles")
    return {kind: (folder / kind, train(run_options(tiny_model, folder / kind, kind))) for kind in KINDS}


def all_weights(folder):
    return {str(p.relative_to(folder)): load_file(p) for p in sorted(Path(folder).rglob("*.safetensors"))}


@pytest.mark.parametrize("kind", KINDS)
def test_run_writes_weights_and_metrics_of_each_role(runs, kind):
    folder, _ = runs[kind]
    last = rows(folder)[-1]
    assert {
        "reward/scout",
        "reward/digger",
        "frac_zero_std/scout",
        "candidate_reward/digger",
        "accuracy",
    } <= last.keys()
    assert ("loss/scout" in last) == (kind != "shared")
    assert checkpoints(folder) == ["step_2", "step_4"]
    name = {"lora_per_role": "adapter_model.safetensors"}.get(kind, "model.safetensors")
    parts = [""] if kind == "shared" else ROLES
    found = [load_file(folder / "policy_final" / part / name) for part in parts]
    if kind != "shared":
        assert any(not torch.equal(found[0][n], found[1][n]) for n in found[0])
    assert max(row["sync_gap"] for row in rows(folder)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_run_of_roles_resumes_exactly(runs, kind, tiny_model, tmp_path):
    whole, _ = runs[kind]
    train(run_options(tiny_model, tmp_path / "run", kind, "steps=2"))
    train(run_options(tiny_model, tmp_path / "run", kind), resuming=True)
    assert rows(tmp_path / "run") == rows(whole)
    ours, theirs = all_weights(tmp_path / "run" / "policy_final"), all_weights(whole / "policy_final")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[f][n], theirs[f][n]) for f in ours for n in ours[f])


def test_roles_train_with_grpo(tiny_model, tmp_path):
    trainer = train(run_options(tiny_model, tmp_path / "run", "lora_per_role", "algo=grpo", "algo.samples_per_task=4"))
    assert "loss/scout" in rows(tmp_path / "run")[-1]
    trainer.run.close()


@pytest.mark.parametrize("kind", ["lora_per_role", "model_per_role"])
def test_loaded_run_acts_with_the_trained_weights_of_each_role(runs, kind):
    folder, trainer = runs[kind]
    loaded = load_run(str(folder))
    agents = ["scout", "digger"] * 2
    assert act(loaded.policy, agents) == act(trainer.run.policy, agents)
    assert len({engine.weights_digest() for engine in loaded.engines}) == 2
    assert {n: t.tolist() for n, t in loaded.policy.state_tensors().items()} == {
        n: t.tolist() for n, t in trainer.run.policy.state_tensors().items()
    }


def evaluation(folder, tmp_path, **options):
    config = EvaluateConfig(run=str(folder), tasks=3, samples=1, output_file=str(tmp_path / "out.json"), **options)
    asyncio.run(run_evaluation(config))
    return json.loads((tmp_path / "out.json").read_text())


def test_evaluation_can_swap_roles(runs, tmp_path):
    folder, _ = runs["model_per_role"]
    plain, swapped = (evaluation(folder, tmp_path, swap_roles=s) for s in (None, True))
    named = evaluation(folder, tmp_path, swap_roles={"scout": "digger", "digger": "scout"})
    assert plain["answers"] != swapped["answers"]
    assert swapped["answers"] == named["answers"]
    assert swapped["result"]["episode_length"] > 0
    with pytest.raises(ReasonEnvsError, match="one policy for all roles"):
        evaluation(runs["shared"][0], tmp_path, swap_roles=True)
    with pytest.raises(ReasonEnvsError, match="must be true or a mapping"):
        evaluation(folder, tmp_path, swap_roles="yes")


def test_checkpoint_of_another_sharing_is_refused(runs, tiny_model, tmp_path):
    init = f"init_from={runs['shared'][0] / 'checkpoints' / 'step_4'}"
    with pytest.raises(ReasonEnvsError, match="belong to none of the roles scout, digger"):
        train(run_options(tiny_model, tmp_path / "run", "model_per_role", init))


def test_roles_can_have_separate_devices(tiny_model, tmp_path):
    def build(kind, *more):
        return make_trainer(run_options(tiny_model, tmp_path / "run", kind, *more)).run

    run = build("model_per_role", "placement.roles={scout: cpu}", "policy.device=auto")
    assert run.policy.roles["scout"].config.device == run.policy.roles["scout"].engine.config.device == "cpu"
    assert run.policy.roles["digger"].config.device == run.policy.roles["digger"].engine.config.device == "auto"
    with pytest.raises(ReasonEnvsError, match=r"placement\.roles=.* names 'coder'.*Roles here: scout, digger"):
        build("model_per_role", "placement.roles={coder: cpu}")
    with pytest.raises(ReasonEnvsError, match=r"placement\.roles='cpu' must map roles"):
        build("model_per_role", "placement.roles=cpu")
    with pytest.raises(ReasonEnvsError, match=r"sharing=model_per_role\. Roles here: one policy plays all"):
        build("shared", "placement.roles={scout: cpu}")


def test_engine_must_hold_an_adapter_per_role(tiny_model, tmp_path):
    vllm = ("engine=vllm", "engine.max_lora_rank=8")
    with pytest.raises(ReasonEnvsError, match=r"engine\.max_loras=1 must be at least 2: the roles scout, digger"):
        make_trainer(run_options(tiny_model, tmp_path / "run", "lora_per_role", *vllm))
