"""LoRA adapters: training, merging and references."""

import pytest
import torch
from language_toys import make_policy, mixed_decisions
from safetensors.torch import load_file, save_file

from agents.algorithms.config import LearnerConfig
from agents.algorithms.optimizer import Optimizer
from agents.algorithms.policy_loss import policy_loss
from agents.algorithms.sample import Sample
from agents.algorithms.update import PolicyUpdate
from agents.policies.lora import merged_weights
from reason_envs.errors import ReasonEnvsError


def log_probs(policy):
    with torch.no_grad():
        return policy.evaluate(mixed_decisions()).log_probs


def change(policy, seed=1, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def policy(tiny_model):
    return make_policy(tiny_model, lora_rank=4, lora_alpha=8)


def test_new_adapter_is_trained_alone_and_starts_without_effect(policy, tiny_model):
    names = [name for name, _ in policy.named_parameters()]
    assert names
    assert all("lora_" in name for name in names)
    assert {name.split(".")[-4] for name in names} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert torch.equal(log_probs(policy), log_probs(make_policy(tiny_model)))


def test_adapter_can_be_limited_to_some_layers(tiny_model):
    policy = make_policy(tiny_model, lora_rank=4, lora_target_modules=["q_proj", "v_proj"])
    assert {name.split(".")[-4] for name, _ in policy.named_parameters()} == {"q_proj", "v_proj"}
    merged = merged_weights(policy.model)
    assert merged.keys() == merged_weights(make_policy(tiny_model).model).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 4, "lora_target_modules": ["q_prj"]}, "Did you mean 'q_proj'"),
        ({"lora_target_modules": ["q_proj"]}, "lora_rank > 0"),
    ],
)
def test_adapter_layers_that_do_not_fit_are_refused(tiny_model, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make_policy(tiny_model, **options)


def test_new_adapter_depends_on_the_seed_only(tiny_model):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = make_policy(tiny_model, lora_rank=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    other = make_policy(tiny_model, lora_rank=4)
    for name, tensor in one.state_tensors().items():
        assert torch.equal(tensor, other.state_tensors()[name])


def test_merged_weights_equal_pefts_and_leave_the_model_unchanged(policy):
    change(policy)
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    ours = policy.export_weights()
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())
    theirs = policy.model.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-6)


def test_export_weights_returns_full_weights_unchanged(tiny_model):
    model = make_policy(tiny_model).model
    assert merged_weights(model).keys() == model.state_dict().keys()


def test_reference_of_a_new_adapter_is_the_base_model(policy, tiny_model):
    policy.prepare_reference()
    change(policy)
    with policy.reference():
        reference = log_probs(policy)
    assert torch.equal(reference, log_probs(make_policy(tiny_model)))
    assert not torch.allclose(log_probs(policy), reference, atol=1e-3)


def test_reference_of_an_existing_adapter_is_its_frozen_copy(policy, tiny_model, tmp_path):
    change(policy)
    policy.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_config.json").is_file()
    continued = make_policy(tiny_model, adapter=str(tmp_path))
    start = log_probs(policy)
    assert torch.allclose(log_probs(continued), start, atol=1e-5)
    continued.prepare_reference()
    change(continued, seed=2)
    with continued.reference():
        reference = log_probs(continued)
    assert torch.allclose(reference, start, atol=1e-5)
    assert not torch.allclose(reference, log_probs(make_policy(tiny_model)), atol=1e-3)
    assert not torch.allclose(log_probs(continued), start, atol=1e-3)


def test_existing_adapter_is_trained_further(policy, tiny_model, tmp_path):
    policy.save_pretrained(tmp_path)
    continued = make_policy(tiny_model, adapter=str(tmp_path))
    assert [n for n, _ in continued.named_parameters()] == [n for n, _ in policy.named_parameters()]


def test_adapter_of_another_model_is_refused(tiny_model, tmp_path):
    make_policy(tiny_model, lora_rank=2).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({name: tensor[:, :-1].contiguous() for name, tensor in load_file(path).items()}, path)
    with pytest.raises(ReasonEnvsError, match=r"policy\.adapter=.*does not fit policy\.model.*size mismatch"):
        make_policy(tiny_model, adapter=str(tmp_path))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ReasonEnvsError, match=r"policy\.adapter=.*or is damaged"):
        make_policy(tiny_model, adapter=str(tmp_path))


def test_dropout_is_active_in_training_mode_only(tiny_model):
    policy = make_policy(tiny_model, lora_rank=4, lora_dropout=0.5)
    change(policy)
    assert torch.equal(log_probs(policy), log_probs(policy))
    with policy.training_mode(True):
        assert not torch.equal(log_probs(policy), log_probs(policy))
        with policy.reference():
            assert torch.equal(log_probs(policy), log_probs(make_policy(tiny_model)))


def test_dropout_depends_on_the_seed_of_the_run(tiny_model):
    def trained(seed):
        policy = make_policy(tiny_model, lora_rank=4, lora_dropout=0.5)
        change(policy)
        torch.manual_seed(len(str(seed)))
        before = torch.random.get_rng_state()
        config = LearnerConfig()
        config.optimizer.learning_rate = 1e-3
        optimizer = Optimizer(config.optimizer, policy.parameters(), 10)
        update = PolicyUpdate(config, policy, optimizer, policy_loss, seed)
        update.run([Sample(d, 1.0) for d in mixed_decisions()], step=3)
        assert torch.equal(torch.random.get_rng_state(), before)
        return torch.cat([tensor.flatten() for tensor in policy.state_tensors().values()])

    assert torch.equal(trained(5), trained(5))
    assert not torch.equal(trained(5), trained(60))
