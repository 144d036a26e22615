import pytest

from agents.algorithms.suited_rate import suited_rate
from agents.config.compose import compose_config
from agents.training.build import build
from agents.training.resolve import resolve


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
