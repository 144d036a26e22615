"""Frozen models of an environment in a run: separate engines, or the policy's engine without its adapter."""

from __future__ import annotations

import asyncio

import pytest
from run_toys import make_trainer
from scripted_engine import ScriptedEngine

from agents.algorithms.optimizer import OptimizerConfig
from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.resolve import resolve
from reason_envs import registration
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import BASE_MODEL, Capability, GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine, TransformersEngineConfig
from reason_envs.llm.engines.vllm.engine import CURRENT, VllmEngine

PROMPT = [{"role": "user", "content": "What is 4 + 5?"}]


class AdapterEngine(TransformersEngine):
    """Keeps its first weights beside the current ones, as an engine with adapters does."""

    def __init__(self, config):
        super().__init__(config)
        self.base = ScriptedEngine("base")
        self.capabilities |= {Capability.ADAPTERS}
        self.adapters = []

    async def generate(self, request):
        self.adapters.append(request.adapter)
        return await (self.base if request.adapter == BASE_MODEL else super()).generate(request)


def overrides(model, folder, *more):
    return [
        "env=planner_solver",
        "env.tasks={name: chain_sum, max_samples: 20}",
        f"policy.model={model}",
        f"output_dir={folder}",
        "policy.max_tokens=12",
        "policy.device=cpu",
        "env.solver_max_tokens=12",
        "eval_every=0",
        "save_every=0",
        *more,
    ]


def own_solver(model):
    return f"env.solver={{name: transformers, model: {model}, device: cpu}}"


def test_planner_and_solver_are_the_embedded_models_by_default():
    config = compose_config(["env=planner_solver"])
    assert (config.algo.name, config.policy.name) == ("grpo", "language")
    assert config.policy.model == config.env.solver["model"] == "embedded:planner_solver"
    assert compose_config([]).policy.model == "embedded"
    assert compose_config(["env=planner_solver", "policy.model=mine"]).policy.model == "mine"
    rates = [
        compose_config(["env=planner_solver", *more]).algo.optimizer.learning_rate
        for more in ([], ["policy.model=embedded"])
    ]
    assert rates == [
        registration.ENVIRONMENTS["planner_solver"].recommends["learning_rate"],
        OptimizerConfig().learning_rate,
    ]


def test_solver_options_are_changed_by_key():
    config = compose_config(["env=planner_solver", "env.solver={name: openai, model: m}", "env.solver.timeout_s=5"])
    assert config.env.solver == {"name": "openai", "model": "m", "timeout_s": 5}


def test_guidelines_of_a_training_step_are_one_call_of_the_solver(tiny_model, tmp_path):
    sizes = ["algo.tasks_per_step=30", "algo.samples_per_task=4", "steps=1", "env.reward.name=random"]
    trainer = make_trainer(overrides(tiny_model, tmp_path / "run", own_solver(tiny_model), *sizes))
    asyncio.run(trainer.train())
    solver = trainer.run.environment.solver
    assert (solver.batcher.calls, solver.batcher.requests) == (1, 120)
    trainer.run.close()
    with pytest.raises(ReasonEnvsError, match="is closed"):
        asyncio.run(solver.generate(GenerationRequest(PROMPT, 0)))


def test_solver_can_be_the_policys_engine_without_its_adapter(tiny_model, tmp_path, monkeypatch):
    made = []

    def make_engine(spec):
        made.append(AdapterEngine(TransformersEngineConfig(model=spec["model"], device=spec["device"])))
        return made[-1]

    monkeypatch.setattr("agents.training.build.make_engine", make_engine)
    more = ["env.solver=policy", "policy.lora_rank=4", "engine=vllm", "engine.max_lora_rank=4"]
    run = build(resolve(compose_config(overrides(tiny_model, tmp_path, *more))))
    assert len(made) == 1, "one engine, one set of weights"
    assert run.environment.solver.adapter == BASE_MODEL

    async def play():
        await run.environment.reset(seed=0)
        return await run.environment.step({"planner": "add"})

    assert asyncio.run(play()).info["solver_texts"] == ["base"]
    assert made[0].adapters == [BASE_MODEL]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["engine=vllm", "engine.max_lora_rank=8"], r"the policy has no adapter: set policy\.lora_rank=16"),
        (["policy.lora_rank=8"], r"engine=transformers gets merged weights: set engine=vllm engine\.max_lora_rank"),
        (["policy.lora_rank=8", "engine=vllm"], r"engine=vllm gets merged weights"),
    ],
)
def test_solver_that_training_would_change_is_an_error_before_a_model_loads(tmp_path, more, message):
    config = compose_config(overrides("embedded", tmp_path, "env.solver=policy", *more))
    with pytest.raises(ReasonEnvsError, match=message):
        resolve(config)


def test_the_base_is_read_without_any_adapter():
    engine = object.__new__(VllmEngine)
    engine._adapters = {CURRENT: "the policy's"}
    assert engine._adapter(None) == "the policy's"
    assert engine._adapter(BASE_MODEL) is None


def test_an_engine_without_adapters_has_no_model_under_them(tiny_model):
    view = AdapterView(TransformersEngine(model=tiny_model, device="cpu"), BASE_MODEL)
    with pytest.raises(EngineError, match=r"holds one set of weights and no adapters\. Use the engine vllm"):
        asyncio.run(view.generate(GenerationRequest(PROMPT, 0, Sampling(1))))
