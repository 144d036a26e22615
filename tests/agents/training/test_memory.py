"""The memory of runs, planned from configurations and compared with the memory that passes really use."""

import json
from dataclasses import replace

import pytest
import torch
from language_toys import make_decision, make_policy

from agents import plan as command
from agents.config.cluster import Machine
from agents.config.compose import compose_config
from agents.training import build, memory, start
from agents.training.memory import ALWAYS, GIB, LearnerMemory, UsedBytes, peak, plan_memory, require_room
from agents.training.phases import GENERATING, UPDATING
from agents.training.resolve import resolve
from reason_envs.errors import RunError

WIDTH, INNER, LAYERS, VOCABULARY = 256, 512, 4, 2048


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the configuration of a model, and nothing else."""
    folder = tmp_path_factory.mktemp("shape")
    shape = {
        **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY},
        **{"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 4096},
    }
    (folder / "config.json").write_text(json.dumps(shape))
    return str(folder)


def configured(folder, *overrides):
    given = ("policy.max_tokens=32", "policy.max_prompt_tokens=32", "eval_tasks=1", *overrides)
    return resolve(compose_config([f"policy.model={folder}", *given])).config


def test_plan_counts_the_parts_of_a_configuration(folder):
    needs = plan_memory(configured(folder, "algo.micro_batch_size=2", "algo.kl_coef=0.1"), Machine(memory_gb=16))
    attention = WIDTH * WIDTH * 2 + WIDTH * WIDTH // 2 * 2
    weights = VOCABULARY * WIDTH + LAYERS * (attention + 3 * WIDTH * INNER + 2 * WIDTH) + WIDTH
    for part in ("learner: weights", "learner: reference"):
        assert needs[ALWAYS][part] == 4 * weights / GIB
    assert "engine: weights" not in needs[ALWAYS]  # the engine samples with the learner's
    coarse = plan_memory(configured(folder, "engine.dtype=bfloat16"), Machine(memory_gb=16))
    assert coarse[ALWAYS]["engine: weights"] == 2 * weights / GIB
    assert needs[ALWAYS]["learner: states of Adam"] == 8 * weights / GIB
    assert needs[UPDATING]["gradients"] == 4 * weights / GIB
    keys = 64 * (2 * LAYERS * (WIDTH // 2) * 4 * 64 + 28 * VOCABULARY)
    assert needs[GENERATING] == {"engine: 64 samples of 64 tokens": keys / GIB}


@pytest.mark.parametrize(("options", "samples"), [(["eval_every=0"], 64), (["eval_samples=2"], 128), ([], 70)])
def test_plan_counts_the_samples_of_the_larger_of_training_and_evaluation(folder, options, samples):
    held = ["eval_tasks=70"] if not options else ["eval_tasks=64"]
    needs = plan_memory(configured(folder, *held, *options, "algo.micro_batch_size=2"), Machine(memory_gb=16))
    assert list(needs[GENERATING]) == [f"engine: {samples} samples of 64 tokens"]


def test_plan_divides_states_among_gpus(folder):
    config = configured(folder, "cluster.learner.shard=full", "policy.lora_rank=8", "algo.micro_batch_size=1")
    needs = plan_memory(config, Machine(4, 8))
    sides = sum(a + b for a, b in (((WIDTH, WIDTH),) * 2 + ((WIDTH, WIDTH // 2),) * 2 + ((WIDTH, INNER),) * 3))
    assert needs[ALWAYS]["learner: states of Adam"] == 2 * 4 * 8 * LAYERS * sides / 4 / GIB
    assert needs[UPDATING]["gathered layers"] > 6 * VOCABULARY * WIDTH / GIB


@pytest.mark.parametrize("options", [{}, {"lora_rank": 4}, {"gradient_checkpointing": True}])
def test_measured_passes_use_the_memory_of_real_ones(options, tiny_model):
    policy = make_policy(tiny_model, **options)
    prompt = make_decision(40, 1).choice.prompt_ids
    drawn = [make_decision(1, 24, seed=seed) for seed in range(6)]
    decisions = [replace(each, choice=replace(each.choice, prompt_ids=prompt)) for each in drawn]
    with UsedBytes([*policy.model.parameters(), *policy.model.buffers()]) as real, policy.training_mode(True):
        for weight in policy.parameters():
            weight.register_post_accumulate_grad_hook(real.exclude_gradient)
        policy.evaluate(decisions).log_probs.sum().backward()
    planned = LearnerMemory(policy.config, torch.device("cpu"))
    prompts = 6 if policy.config.gradient_checkpointing else 1
    assert planned.pass_bytes(6, prompts, 40, 24) == pytest.approx(real.peak, rel=0.05)
    assert policy.config.gradient_checkpointing or planned.kept_bytes() == policy.activation_bytes()


def few_needs(config, machine):
    """Stand for a plan: 4 GiB, half of it with checkpointing, and a third with an adapter."""
    smaller = (1 + bool(config.policy.gradient_checkpointing)) * (1 + 2 * config.policy.uses_lora)
    return {ALWAYS: {"all": 1.0}, GENERATING: {}, UPDATING: {"passes": 3 / smaller}}


def test_refusal_shows_the_arithmetic_and_the_most_helpful_option_first(folder, monkeypatch):
    monkeypatch.setattr(memory, "plan_memory", few_needs)
    config, machine = configured(folder), Machine(memory_gb=1.5)
    assert peak(few_needs(config, machine)) == (4, UPDATING)
    with pytest.raises(RunError) as refused:
        require_room(few_needs(config, machine), config, machine)
    assert "needs 4.0 GiB while updating (all 1.0, passes 3.0), but 1.5 GiB are there" in str(refused.value)
    helps = "It needs 2.0 with policy.lora_rank=16, 2.5 with policy.gradient_checkpointing=true. "
    assert helps in str(refused.value)


def test_command_prints_a_table_of_80_columns_and_refuses(folder, capsys, monkeypatch):
    monkeypatch.setattr(memory, "SMALLER", {})
    with pytest.raises(SystemExit):
        command.main([f"policy.model={folder}", "plan.memory_gb=0.5", "policy.max_tokens=32"])
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["always", "libraries", "0.65", "GiB"]
    assert "of 0.5 GiB" in lines[-1]
    assert max(map(len, lines)) <= 80
    assert "The run needs" in captured.err


def test_clustered_run_that_does_not_fit_is_refused_before_ray_starts(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Machine, "gib", 0.1)
    monkeypatch.setattr(build, "connect", lambda config: pytest.fail("it connected"))
    options = ["cluster.address=local", f"policy.model={folder}", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(RunError, match=r"^The run needs .* but 0\.1 GiB are there"):
        start.train(compose_config(options))
