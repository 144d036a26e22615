import asyncio
import json

import pytest

from agents.algorithms.suited_rate import suited_rate
from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.resolve import resolve
from agents.training.trainer import Trainer
from reason_envs.llm.engines.transformers.engine import TransformersEngine


@pytest.mark.parametrize(
    ("parameters", "lora", "rate"),
    [(135e6, False, 1e-5), (540e6, False, 5e-6), (13.5e9, False, 1e-6), (135e6, True, 1e-4), (13.5e9, True, 1e-5)],
)
def test_suited_rate_falls_with_the_square_root_of_the_size(parameters, lora, rate):
    assert suited_rate(int(parameters), lora=lora) == rate


@pytest.mark.parametrize("rank", [0, 4])
def test_run_of_another_model_gets_the_rate_of_its_size(tiny_model, tmp_path, rank):
    options = [f"policy.model={tiny_model}", f"policy.lora_rank={rank}", f"output_dir={tmp_path / 'run'}"]
    run = build(resolve(compose_config(options)))
    parameters = sum(p.numel() for p in run.policy.model.parameters())
    assert run.plan.config.algo.optimizer.learning_rate == suited_rate(parameters, lora=rank > 0)
    run.close()


SHORT = ("steps=2", "eval_every=0", "algo.tasks_per_step=2", "algo.samples_per_task=4", "policy.max_tokens=8")


def built(tiny_model, folder, *options):
    own = [f"policy.model={tiny_model}", f"output_dir={folder}", *SHORT, *options]
    return build(resolve(compose_config(own)))


def shares(run):
    """Return whether policy and engine use the same memory, for each tensor."""
    theirs = run.policy.engine.model.state_dict()
    return {theirs[name].data_ptr() == own.data_ptr() for name, own in run.policy.export_weights().items()}


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        ([], True),
        (["policy.lora_rank=4"], False),
        (["engine.dtype=bfloat16"], False),
        (["pipeline.steps_ahead=1", "algo.correction=token"], False),
    ],
)
def test_engine_samples_with_the_tensors_of_a_fully_trained_policy(tiny_model, tmp_path, options, shared):
    run = built(tiny_model, tmp_path / "run", *options)
    assert shares(run) == {shared}
    run.close()


def test_run_does_not_depend_on_whether_the_engine_shares_the_weights(tiny_model, tmp_path, monkeypatch):
    def metrics(folder):
        run = built(tiny_model, tmp_path / folder, "env.reward.name=random", "algo.optimizer.learning_rate=1e-3")
        shared = shares(run)
        asyncio.run(Trainer(run).train())
        run.close()
        rows = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        return shared, [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in rows]

    (shared, ours) = metrics("shared")
    monkeypatch.setattr(TransformersEngine, "share_weights", lambda *_: None)
    (copied, theirs) = metrics("copied")
    assert (shared, copied) == ({True}, {False})
    assert ours == theirs
    assert ours[-1]["grad_norm"] > 0
