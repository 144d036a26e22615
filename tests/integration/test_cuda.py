"""Placement of the parts of a run on one and two CUDA devices."""

import pytest
import torch
from run_toys import make_run, make_trainer, train

from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.resolve import resolve
from reason_envs.llm import make_engine
from reason_envs.llm.engine import GenerationRequest, Sampling

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PROMPT = [{"role": "user", "content": "State the final answer to the following arithmetic problem: 12 + 30 - 5 ="}]


def sampled(device):
    """A greedy sample, and one that continues its first tokens."""
    engine = make_engine("transformers", device=device, dtype="float32")
    first = GenerationRequest(PROMPT, 0, Sampling(24, temperature=0.0), keep_prefix=True)
    ((one,),) = engine.generate_batch([first])
    further = GenerationRequest(
        one.prompt_ids + one.token_ids, 1, Sampling(8), keep_prefix=True, prefix_cache=one.prefix_cache
    )
    ((two,),) = engine.generate_batch([further])
    return engine, one, two


def test_cuda_engine_generates_the_tokens_of_the_cpu():
    engine, *ours = sampled("cuda:0")
    assert next(engine.model.parameters()).device == torch.device("cuda:0")
    _, *theirs = sampled("cpu")
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.token_ids == other.token_ids
        assert mine.log_probs == pytest.approx(other.log_probs, abs=1e-3)


@pytest.mark.parametrize("more", [(), ("policy.lora_rank=4",)], ids=["full", "lora"])
def test_cuda_run_trains(tiny_model, tmp_path, more):
    trainer = make_run(tiny_model, tmp_path / "run", "policy.device=cuda:0", "steps=2", *more)
    assert {p.device for p in trainer.run.policy.parameters()} == {torch.device("cuda:0")}
    assert train(trainer) is None
    assert (tmp_path / "run" / "policy_final").is_dir()


def devices_of(placement):
    overrides = [f"placement.{part}={device}" for part, device in placement.items()]
    run = build(resolve(compose_config(["env=reason_tree", *overrides])))
    models = {
        "generator": run.engines[0].model,
        "reward_model": run.reward_model.reader.model,
        "policy": run.policy.network,
    }
    found = {part: str(next(model.parameters()).device) for part, model in models.items()}
    run.close()
    return found


def test_cuda_run_places_everything_on_one_device():
    placement = dict.fromkeys(("generator", "reward_model", "policy"), "cuda:0")
    assert devices_of(placement) == placement


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_cuda_run_uses_two_devices():
    placement = {"generator": "cuda:0", "reward_model": "cuda:1", "policy": "cuda:1"}
    assert devices_of(placement) == placement


def test_cuda_search_run_trains(tmp_path):
    overrides = [
        "env=reason_tree",
        f"output_dir={tmp_path / 'run'}",
        "steps=1",
        "algo.tasks_per_step=4",
        "eval_every=0",
    ]
    devices = [f"placement.{part}=cuda:0" for part in ("generator", "reward_model", "policy")]
    assert train(make_trainer([*overrides, *devices])) is None
