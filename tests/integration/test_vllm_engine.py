"""``engine=vllm`` with the embedded model: comparison with transformers, new weights, adapters, and runs."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from peft import get_peft_model_state_dict
from run_toys import checkpoints, make_run, rows, train

from agents.policies.language import LanguagePolicy, LanguagePolicyConfig
from agents.policies.lora import adapter_weights, write_adapter
from agents.policies.roles import RolePolicy
from agents.rollout.episodes import grouped, play
from agents.training.weight_sync import PolicySync, WeightSync
from reason_envs import make_environment
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.adapter_views import AdapterView
from reason_envs.llm.engine import BASE_MODEL, GenerationRequest, Sampling
from reason_envs.llm.engines.vllm.engine import VllmEngine
from reason_envs.llm.engines.vllm.process import call_vllm
from reason_envs.tasks import make

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra [vllm])"),
]

TASKS = [f"{a} + {b} - {a // 2} + 7" for a in (4, 12, 35, 61) for b in (7, 28, 60, 93)]
PROMPTS = [[{"role": "user", "content": f"What is {task}?"}] for task in TASKS]
GREEDY = Sampling(max_tokens=64, temperature=0.0)
MARGIN = 0.1
RANK = 4


@pytest.fixture(scope="module")
def engine():
    """Build an engine in float32 with adapters."""
    engine = make_engine(
        "vllm",
        device="cpu",
        enforce_eager=True,
        kv_cache_gib=0.25,
        max_model_len=384,
        max_sequences=96,
        max_lora_rank=RANK,
        max_loras=2,
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def transformers():
    return make_engine("transformers", device="cpu")


@pytest.fixture
def base(engine, transformers):
    """Restore the engine's weights after a test."""
    yield {name: tensor.clone() for name, tensor in transformers.model.state_dict().items()}
    engine.load_weights(transformers.model.state_dict(), 0)


def make_policy(seed=0, **options):
    policy = LanguagePolicy(LanguagePolicyConfig(device="cpu", **options), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return policy


def ask(engine, sampling=GREEDY, seed=0, n=1):
    return engine.generate_batch(
        [GenerationRequest(p, derive_seed(seed, i), sampling, n) for i, p in enumerate(PROMPTS)]
    )


def score(engine, generation, temperature=1.0):
    ids = generation.prompt_ids + generation.token_ids
    return torch.tensor(asyncio.run(engine.score(ids, len(generation.prompt_ids), temperature)))


def scores(engine, generations):
    return [score(engine, generation) for generation in generations]


def furthest(ours, theirs):
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


def assert_same_greedy(ours, theirs, transformers):
    """Check that tokens are equal up to the first near-tie of the other engine."""
    equal = 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.prompt_ids == b.prompt_ids
        at = next((i for i, (x, y) in enumerate(zip(a.token_ids, b.token_ids, strict=False)) if x != y), None)
        if at is None:
            assert len(a.token_ids) == len(b.token_ids)
            equal += 1
            continue
        ids = torch.tensor([b.prompt_ids + b.token_ids[:at]])
        top = transformers.model(ids).logits[0, -1].float().topk(2).values
        assert float(top[0] - top[1]) <= MARGIN
    return equal


def first(answers):
    return [samples[0] for samples in answers]


def test_vllm_greedy_tokens_equal_the_transformers_engine(engine, transformers):
    ours, theirs = first(ask(engine)), first(ask(transformers))
    assert assert_same_greedy(ours, theirs, transformers) >= len(PROMPTS) - 1
    assert [g.text for g in ours if "boxed" in g.text]
    assert furthest([torch.tensor(g.log_probs) for g in ours], scores(transformers, ours)) < 1e-3


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_vllm_log_probs_are_at_the_sampling_temperature(engine, transformers, temperature):
    for generation in first(ask(engine, Sampling(48, temperature)))[:6]:
        theirs = score(transformers, generation, temperature)
        assert float((torch.tensor(generation.log_probs) - theirs).abs().max()) < 1e-3
        assert float((score(engine, generation, temperature) - theirs).abs().max()) < 1e-3


def test_vllm_returns_no_log_probs_with_top_p_and_top_k(engine):
    for sampling in (Sampling(32, 1.0, top_p=0.9), Sampling(32, 1.0, top_k=1)):
        assert all(generation.log_probs is None for generation in first(ask(engine, sampling)))
    only_the_best = first(ask(engine, Sampling(64, 1.0, top_k=1)))
    assert [g.token_ids for g in only_the_best] == [g.token_ids for g in first(ask(engine))]


def test_vllm_samples_depend_on_their_seed_alone(engine):
    together = ask(engine, Sampling(48), n=3)
    assert together == ask(engine, Sampling(48), n=3)
    assert [g.token_ids for g in first(together)] != [g.token_ids for g in first(ask(engine, Sampling(48), seed=1))]
    assert len({tuple(g.token_ids) for g in together[0] + together[1]}) > 2
    for i in (0, 5):
        (alone,) = engine.generate_batch([GenerationRequest(PROMPTS[i], derive_seed(0, i), Sampling(48), 3)])
        assert [g.token_ids for g in alone] == [g.token_ids for g in together[i]]


def test_vllm_cuts_text_at_stop_strings_and_keeps_their_tokens(engine):
    whole, stopped = first(ask(engine)), first(ask(engine, Sampling(64, 0.0, stop=("boxed",))))
    assert [g for g in whole if "boxed" in g.text]
    for a, b in zip(whole, stopped, strict=True):
        assert b.text == a.text.split("boxed")[0]
        assert b.token_ids == a.token_ids[: len(b.token_ids)]
        assert ("boxed" in engine.tokenizer.decode(b.token_ids)) == ("boxed" in a.text)
        assert (a.stop_string, b.stop_string) == (None, "boxed" if "boxed" in a.text else None)
        assert len(b.log_probs) == len(b.token_ids)


def test_vllm_reports_finish_reasons_and_limits(engine):
    assert {(g.finish_reason, len(g.token_ids)) for g in first(ask(engine, Sampling(2, 0.0)))} == {("length", 2)}
    ended = [g for g in first(ask(engine)) if g.finish_reason == "stop"]
    assert ended
    assert {g.token_ids[-1] for g in ended} == {engine.tokenizer.eos_token_id}
    with pytest.raises(ReasonEnvsError, match="exceed the engine's context length of 384"):
        ask(engine, Sampling(384))


def test_vllm_accepts_token_ids(engine):
    (messages,) = first(ask(engine)[:1])
    ((tokens,),) = engine.generate_batch([GenerationRequest(messages.prompt_ids, 0, GREEDY)])
    assert tokens == messages


def test_vllm_accepts_more_prompts_than_one_pass_holds(engine):
    generator = np.random.default_rng(0)
    prompts = generator.integers(20, 1000, (96, 90)).tolist()
    assert engine.llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens < 96 * 90
    answers = first(engine.generate_batch([GenerationRequest(p, i, Sampling(4)) for i, p in enumerate(prompts)]))
    for i in (0, 50, 95):
        (alone,) = first(engine.generate_batch([GenerationRequest(prompts[i], i, Sampling(4))]))
        assert alone.token_ids == answers[i].token_ids


def test_vllm_counts_tokens(engine):
    before = engine.generated_tokens
    answers = ask(engine, Sampling(16), n=2)
    assert engine.generated_tokens - before == sum(len(g.token_ids) for samples in answers for g in samples)


def test_vllm_load_weights_changes_and_restores_scores(engine, transformers, base):
    answers = first(ask(transformers))[:4]
    engine.load_weights(base, 1)
    before = scores(engine, answers)
    policy = make_policy()
    engine.load_weights(policy.export_weights(), 2)
    changed = make_engine("transformers", device="cpu")
    changed.load_weights(policy.export_weights(), 2)
    assert engine.weights_digest() == changed.weights_digest() != transformers.weights_digest()
    assert furthest(scores(engine, answers), scores(changed, answers)) < 1e-3
    assert furthest(scores(engine, answers), before) > 0.1
    assert {g.policy_version for g in first(ask(engine, Sampling(4)))} == {2}
    engine.load_weights(base, 3)
    assert engine.weights_digest() == transformers.weights_digest()
    assert furthest(scores(engine, answers), before) == 0


def test_vllm_refuses_weights_that_do_not_fit(engine, transformers, base):
    name = "model.layers.0.self_attn.q_proj.weight"
    engine.load_weights(base, 5)
    for broken, message in (
        ({n: t for n, t in base.items() if n != name}, rf"1 missing \({name}\)"),
        ({**base, name: base[name][:-1]}, f"Weight {name} has shape"),
        ({**base, "extra": base[name]}, r"1 unknown \(extra\)"),
    ):
        with pytest.raises(ReasonEnvsError, match=message):
            engine.load_weights(broken, 6)
    assert (engine.policy_version, engine.weights_digest()) == (5, transformers.weights_digest())


def write(policy, folder):
    folder.mkdir()
    write_adapter(policy.model, adapter_weights(policy.model), folder)
    return folder


def merged(policy):
    engine = make_engine("transformers", device="cpu")
    engine.load_weights(policy.export_weights(), 0)
    return engine


def test_vllm_adapter_equals_merged_weights(engine, base, tmp_path):
    policy, other = (make_policy(seed, lora_rank=RANK) for seed in (1, 2))
    assert adapter_weights(policy.model).keys() == get_peft_model_state_dict(policy.model).keys()
    answers = {}
    for version, trained in enumerate((policy, other), 7):
        engine.load_weights(write(trained, tmp_path / str(version)), version)
        oracle = merged(trained)
        answers[version] = first(ask(engine))
        assert assert_same_greedy(answers[version], first(ask(oracle)), oracle) >= len(PROMPTS) - 1
        assert furthest(scores(engine, answers[version]), scores(oracle, answers[version])) < 1e-3
        assert {g.policy_version for g in answers[version]} == {version}
    assert furthest(scores(engine, answers[7]), scores(merged(policy), answers[7])) > 0.1


def test_vllm_holds_adapters_by_name(engine, base, tmp_path):
    engine.load_weights(base, 0)
    policy = make_policy(1, lora_rank=RANK)
    plain = GenerationRequest(PROMPTS[0], 0, GREEDY)
    adapted = GenerationRequest(PROMPTS[0], 0, GREEDY, adapter="planner")
    engine.load_weights(write(policy, tmp_path / "planner"), 1, "planner")
    ((a,), (b,)) = engine.generate_batch([plain, adapted])
    assert float((score(merged(policy), b) - torch.tensor(b.log_probs)).abs().max()) < 1e-3
    assert float((score(engine, a) - torch.tensor(a.log_probs)).abs().max()) < 1e-3
    assert float((score(engine, b) - torch.tensor(b.log_probs)).abs().max()) > 0.1
    with pytest.raises(ReasonEnvsError, match="Did you mean 'planner'"):
        engine.generate_batch([GenerationRequest(PROMPTS[0], 0, GREEDY, adapter="planer")])
    engine.load_weights(tmp_path / "planner", 1, "solver")
    with pytest.raises(ReasonEnvsError, match=r"exceeds max_loras=2"):
        engine.load_weights(tmp_path / "planner", 1, "third")
    with pytest.raises(EngineError, match="loaded from its folder"):
        engine.load_weights(base, 1, "solver")


def test_vllm_base_model_is_unchanged_by_adapters(engine, base, tmp_path):
    engine.load_weights(base, 0)
    plain, frozen = [g.token_ids for g in first(ask(engine))], AdapterView(engine, BASE_MODEL)
    engine.load_weights(write(make_policy(1, lora_rank=RANK), tmp_path / "adapter"), 1)

    async def answers():
        return await gather(*(frozen.generate(GenerationRequest(p, 0, GREEDY)) for p in PROMPTS))

    under = [g.token_ids for g in first(asyncio.run(answers()))]
    assert sum(a == b for a, b in zip(under, plain, strict=True)) >= len(PROMPTS) - 1  # near-ties may flip
    assert [g.token_ids for g in first(ask(engine))] != plain


def test_vllm_refuses_an_adapter_of_another_rank(engine, base, tmp_path):
    engine.load_weights(base, 5)
    with pytest.raises(EngineError, match=r"has rank 8, but the engine's max_lora_rank is 4\. Set max_lora_rank=8"):
        engine.load_weights(write(make_policy(lora_rank=8), tmp_path / "a"), 6)
    assert engine.policy_version == 5


def test_vllm_answers_64_episodes_with_one_call(engine, base):
    policy = make_policy()
    policy.engine = engine
    tasks = make("chain_sum")
    environment = make_environment("single_turn_math", tasks=tasks)
    calls = engine.batcher.calls
    trajectories = asyncio.run(play(environment, policy, grouped([tasks.ordered(i, 0) for i in range(16)], 4, 0)))
    assert len(trajectories) == 64
    assert engine.batcher.calls == calls + 1


def test_vllm_works_in_several_event_loops(engine):
    request = GenerationRequest(PROMPTS[0], 0, GREEDY)

    async def both():
        return await gather(engine.generate(request), engine.generate(request))

    assert asyncio.run(both()) == asyncio.run(both())


@pytest.mark.parametrize("lora_rank", [0, RANK])
def test_vllm_weight_sync_passes(engine, base, lora_rank):
    policy = make_policy(lora_rank=lora_rank)
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    assert asyncio.run(sync.push(1))["sync_gap"] < 1e-3
    assert bool(engine._adapters) == bool(lora_rank)


def test_vllm_weight_canary_passes_with_a_new_adapter(engine, base):
    asyncio.run(WeightSync(LanguagePolicy(LanguagePolicyConfig(device="cpu", lora_rank=RANK)), engine).canary())


def test_vllm_samples_with_one_adapter_per_role(engine, base):
    config = LanguagePolicyConfig(device="cpu", sharing="lora_per_role", lora_rank=RANK, max_tokens=24)
    policy = RolePolicy(config, ["scout", "digger"], seed=0)
    for name, role in policy.roles.items():
        role.engine = AdapterView(engine, name)
    sync = PolicySync(policy)
    asyncio.run(sync.canary())
    with torch.no_grad():
        for parameter in policy.roles["digger"].parameters():
            parameter += 0.05
    assert asyncio.run(sync.push(1))["sync_gap"] < 1e-3
    agents = ["scout", "digger"] * 4
    calls = engine.batcher.calls
    choices = asyncio.run(policy.act(PROMPTS[:1] * 8, range(8), agents=agents))
    assert engine.batcher.calls == calls + 1, "both roles in one batch"
    scout, digger = (asyncio.run(policy.act(PROMPTS[:1] * 8, range(8), agents=[a] * 8)) for a in ("scout", "digger"))
    assert [c.token_ids for c in choices] == [(scout, digger)[i % 2][i].token_ids for i in range(8)]
    assert [c.token_ids for c in scout] != [c.token_ids for c in digger]
    assert {c.policy_version for c in choices} == {1}


@pytest.mark.parametrize("lora", [[], [f"policy.lora_rank={RANK}"]])
def test_vllm_run_stops_if_weights_are_withheld(engine, base, monkeypatch, tmp_path, lora):
    class Withholding(VllmEngine):
        def load_weights(self, source, version):
            if version == 0:
                super().load_weights(source, version)

    monkeypatch.setattr(engine, "__class__", Withholding)
    monkeypatch.setattr("agents.training.build.make_engine", lambda *_, **__: engine)
    options = ("algo.optimizer.learning_rate=1e-6", "eval_every=0", "engine=vllm", *lora)
    with pytest.raises(ReasonEnvsError, match="version 1 did not reach the engine: its digest is"):
        train(make_run("embedded", tmp_path / "run", *options))


def test_vllm_receives_the_options(engine):
    config = engine.llm.llm_engine.vllm_config
    assert config.model_config.dtype == torch.float32
    assert (config.model_config.max_model_len, config.model_config.enforce_eager) == (384, True)
    assert engine.context_length == 384
    assert config.model_config.logprobs_mode == "processed_logprobs"
    assert (config.cache_config.kv_cache_memory_bytes, config.cache_config.enable_prefix_caching) == (2**28, True)
    assert (config.scheduler_config.max_num_seqs, config.scheduler_config.enable_chunked_prefill) == (96, False)
    assert (config.lora_config.max_lora_rank, config.lora_config.max_loras) == (8, 3)


def processes():
    """Return the children of this process without the resource tracker of Python, which runs until the end."""
    children = psutil.Process().children(recursive=True)
    return {child for child in children if "multiprocessing.resource_tracker" not in " ".join(child.cmdline())}


def test_vllm_works_compiled_in_bfloat16(transformers, tmp_path):
    options = {"prefix_caching": False, "kv_cache_gib": 0.25, "tensor_parallel_size": 1}
    others = processes()
    engine = make_engine("vllm", device="cpu", dtype="bfloat16", **options)
    try:
        config = engine.llm.llm_engine.vllm_config
        assert (config.model_config.dtype, config.model_config.enforce_eager) == (torch.bfloat16, False)
        assert (config.cache_config.enable_prefix_caching, config.lora_config) == (False, None)
        half = make_engine("transformers", device="cpu", dtype="bfloat16")
        answers = first(ask(engine))
        assert assert_same_greedy(answers, first(ask(half)), half) >= len(PROMPTS) // 2
        gaps = torch.cat([(a - b).abs() for a, b in zip(scores(engine, answers), scores(half, answers), strict=True)])
        assert float(gaps.mean()) < 0.03
        assert float(gaps.max()) < 0.5
        engine.load_weights(transformers.model.state_dict(), 1)
        assert engine.weights_digest() == half.weights_digest()
        assert first(ask(engine)) == [g.__class__(**{**vars(g), "policy_version": 1}) for g in answers]
        with pytest.raises(ReasonEnvsError, match=r"Set max_lora_rank"):
            engine.load_weights(tmp_path, 1, "solver")
        started = processes() - others
        assert started
    finally:
        engine.close()
    assert psutil.wait_procs(started, timeout=60)[1] == []
    engine.close()
    with pytest.raises(ReasonEnvsError, match=r"VllmEngine is closed\. Build a new one"):
        ask(engine)


def test_vllm_failure_is_an_engine_error(engine):
    with pytest.raises(ReasonEnvsError, match=r"vLLM failed in collective_rpc: .*nowhere"):
        call_vllm(engine.llm.collective_rpc, "nowhere")


def test_vllm_start_failure_is_an_engine_error():
    with pytest.raises(
        ReasonEnvsError, match=r"vLLM did not start: .*Its arguments: model=.*kv_cache_memory_bytes=1024"
    ):
        make_engine("vllm", device="cpu", enforce_eager=True, kv_cache_gib=2**-20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_vllm_run_ends_with_all_of_its_processes(tmp_path, number):
    """The terminal sends SIGINT to the processes of vLLM as well; SIGKILL reaches the trainer alone."""
    run = tmp_path / "run"
    overrides = ("steps=500", "algo.tasks_per_step=4", "policy.max_tokens=32", "eval_every=0", "save_every=0")
    command = [sys.executable, "-m", "agents.train", "engine=vllm", "engine.enforce_eager=true", "policy.device=cpu"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *overrides, f"output_dir={run}"], stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(lambda: (run / "metrics.jsonl").is_file() and len(rows(run)) >= 2, process)
            children = psutil.Process(process.pid).children(recursive=True)
            assert any("VLLM" in child.name() for child in children)
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            code = process.wait(120)
        finally:
            if process.poll() is None:
                process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    if number == signal.SIGKILL:
        return
    assert code == 128 + signal.SIGINT, (tmp_path / "log").read_text()[-3000:]
    assert checkpoints(run)[-1] == f"step_{rows(run)[-1]['step']}" != "step_0"


def wait_for(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "the run is too slow"
        time.sleep(0.5)


def test_vllm_run_trains(tmp_path):
    overrides = ("steps=3", "algo.tasks_per_step=4", "algo.samples_per_task=4", "policy.max_tokens=48", "eval_every=0")
    command = [sys.executable, "-m", "agents.train", "engine=vllm", "engine.enforce_eager=true", "policy.device=cpu"]
    done = subprocess.run(
        [*command, *overrides, f"output_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert [row["step"] for row in rows(tmp_path / "run")][-1] == 3
