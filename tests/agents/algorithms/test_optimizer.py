"""The optimizer: schedules, clipping, decay and resuming."""

import math

import pytest
import torch
from torch import nn

from agents.algorithms.optimizer import Optimizer, OptimizerConfig
from agents.training.state_tree import flatten, unflatten
from reason_envs.errors import ReasonEnvsError


def make(total_steps=10, parameters=None, scale_loss=False, **options):
    parameters = parameters or [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    config = OptimizerConfig(**{"learning_rate": 0.1, **options})
    return Optimizer(config, parameters, total_steps, scale_loss=scale_loss), parameters


def rates(**options):
    optimizer, _ = make(**options)
    result = []
    for step in range(optimizer.total_steps + 2):
        optimizer.training_step = step
        result.append(optimizer.learning_rate)
    return result


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"total_steps": 3}, [0.1, 0.1, 0.1, 0.1, 0.1]),
        ({"total_steps": 3, "warmup_steps": 2}, [0.05, 0.1, 0.1, 0.1, 0.1]),
        ({"total_steps": 4, "schedule": "linear"}, [0.1, 0.075, 0.05, 0.025, 0, 0]),
        ({"total_steps": 4, "schedule": "linear", "warmup_steps": 2}, [0.05, 0.1, 0.1, 0.05, 0, 0]),
        (
            {"total_steps": 4, "schedule": "cosine"},
            [0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5)), 0, 0],
        ),
    ],
)
def test_learning_rate_follows_the_schedule(options, expected):
    assert rates(**options) == pytest.approx(expected, abs=1e-12)


def test_value_group_has_its_own_rate_and_clipping():
    main, value = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=2, max_grad_norm=1.0)
    optimizer = Optimizer(config, [main, value], 10, value_group=([value], 0.4))
    optimizer.backward(0.1 * main.sum() + 1000 * value.sum())
    # The value group is clipped separately, and grad_norm leaves it out.
    assert optimizer.step()["grad_norm"] == pytest.approx(0.2)
    assert torch.allclose(main, torch.full((2, 2), 1 - 0.05))
    assert torch.allclose(value, torch.full((2,), 1 - 0.2))


def test_optimizer_refuses_an_unknown_schedule():
    with pytest.raises(ReasonEnvsError, match="Did you mean 'cosine'"):
        make(schedule="cosin")


def test_first_step_has_the_size_of_the_learning_rate():
    optimizer, (matrix, vector) = make(max_grad_norm=0.0)
    optimizer.backward(3 * matrix.sum() - 5 * vector.sum())
    metrics = optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 0.9))
    assert torch.allclose(vector, torch.full((2,), 1.1))
    assert metrics == {"grad_norm": pytest.approx(math.sqrt(4 * 9 + 2 * 25)), "learning_rate": 0.1}
    assert matrix.grad is None


@pytest.mark.parametrize(("limit", "expected"), [(0.0, 10.0), (5.0, 5.0), (20.0, 10.0)])
def test_step_clips_gradients_to_the_maximum_norm(limit, expected, monkeypatch):
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer, _ = make(parameters=[parameter], max_grad_norm=limit)
    optimizer.backward((parameter * torch.tensor([[6.0, 0], [0, 8]])).sum())
    seen = []
    monkeypatch.setattr(optimizer._adamw, "step", lambda: seen.append(float(parameter.grad.norm())))
    assert optimizer.step()["grad_norm"] == pytest.approx(10.0)
    assert seen == [pytest.approx(expected, rel=1e-5)]


def test_backward_accumulates_gradients():
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer, _ = make(parameters=[parameter])
    for _ in range(3):
        optimizer.backward(parameter.sum())
    assert torch.equal(parameter.grad, torch.full((2, 2), 3.0))


def test_weight_decay_applies_to_matrices_only():
    optimizer, (matrix, vector) = make(weight_decay=0.5)
    optimizer.backward(0 * (matrix.sum() + vector.sum()))
    optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 1 - 0.1 * 0.5))
    assert torch.equal(vector, torch.ones(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_step_refuses_gradients_that_are_not_finite(bad):
    optimizer, (matrix, vector) = make()
    optimizer.backward((matrix * bad).sum() + vector.sum())
    with pytest.raises(ReasonEnvsError, match=r"gradient norm is .* at optimizer step 0"):
        optimizer.step()
    assert torch.equal(matrix, torch.ones(2, 2))
    assert torch.equal(vector, torch.ones(2))
    assert optimizer.steps == 0
    assert vector.grad is None


def test_loss_scaling_skips_overflows_and_halves_the_scale():
    optimizer, (matrix, _) = make(scale_loss=True)
    scale = optimizer.state_dict()["scaler"]["scale"]
    optimizer.backward((matrix * math.inf).sum())
    optimizer.step()
    assert torch.equal(matrix, torch.ones(2, 2))
    assert optimizer.state_dict()["scaler"]["scale"] == scale / 2
    optimizer.backward(3 * matrix.sum())
    assert optimizer.step()["grad_norm"] == pytest.approx(6.0)
    assert not torch.equal(matrix, torch.ones(2, 2))


def test_load_state_dict_continues_bit_for_bit():
    def steps(optimizer, parameters, count):
        for _ in range(count):
            optimizer.training_step = optimizer.steps
            optimizer.backward(sum((p.square() * 0.7).sum() for p in parameters))
            optimizer.step()

    through, through_parameters = make(schedule="cosine", warmup_steps=2, weight_decay=0.1)
    steps(through, through_parameters, 6)
    first, first_parameters = make(schedule="cosine", warmup_steps=2, weight_decay=0.1)
    steps(first, first_parameters, 3)
    copies = [nn.Parameter(p.detach().clone()) for p in first_parameters]
    second, _ = make(parameters=copies, schedule="cosine", warmup_steps=2, weight_decay=0.1)
    second.load_state_dict(unflatten(*flatten(first.state_dict())))
    steps(second, copies, 3)
    assert all(torch.equal(a, b) for a, b in zip(through_parameters, copies, strict=True))


@pytest.mark.parametrize(("device_type", "fused"), [("cpu", True), ("cuda", True), ("mps", None)])
def test_optimizer_is_fused_where_pytorch_supports_it_everywhere(device_type, fused):
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = Optimizer(OptimizerConfig(learning_rate=0.1), [parameter], 1, device_type=device_type)
    assert optimizer._adamw.defaults["fused"] is fused
