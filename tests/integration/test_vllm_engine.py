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
from loop_toys import longest_silence
from peft import get_peft_model_state_dict
from run_toys import checkpoints, make_run, rows, train
from vllm_toys import RANK, processes

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
from reason_envs.llm.engines.vllm import shared_buffer
from reason_envs.llm.engines.vllm.engine import VllmEngine
from reason_envs.llm.weights import digest
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


@pytest.fixture
def engine(vllm_engine):
    return vllm_engine


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


def answer(engine, requests):
    async def together():
        return await gather(*(engine.generate(request) for request in requests))

    return asyncio.run(together())


def ask(engine, sampling=GREEDY, seed=0, n=1):
    return answer(engine, [GenerationRequest(p, derive_seed(seed, i), sampling, n) for i, p in enumerate(PROMPTS)])


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
    together, again = (ask(engine, Sampling(48), n=3) for _ in range(2))
    pairs = [pair for both in zip(together, again, strict=True) for pair in zip(*both, strict=True)]
    equal = [pair for pair in pairs if pair[0].token_ids == pair[1].token_ids]
    assert len(equal) >= len(pairs) - 1  # near-ties may flip
    assert furthest(*([torch.tensor(g.log_probs) for g in column] for column in zip(*equal, strict=True))) < 1e-3
    assert [g.token_ids for g in first(together)] != [g.token_ids for g in first(ask(engine, Sampling(48), seed=1))]
    assert len({tuple(g.token_ids) for g in together[0] + together[1]}) > 2
    for i in (0, 5):
        (alone,) = answer(engine, [GenerationRequest(PROMPTS[i], derive_seed(0, i), Sampling(48), 3)])
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
    with pytest.raises(ReasonEnvsError, match="exceed the engine's context length of 512"):
        ask(engine, Sampling(512))


def test_vllm_accepts_token_ids(engine):
    (messages,) = first(ask(engine)[:1])
    ((tokens,),) = answer(engine, [GenerationRequest(messages.prompt_ids, 0, GREEDY)])
    assert tokens == messages


def test_vllm_accepts_more_prompts_than_one_pass_holds(engine):
    generator = np.random.default_rng(0)
    prompts = generator.integers(20, 1000, (96, 90)).tolist()
    assert engine.thread.llm.vllm_config.scheduler_config.max_num_batched_tokens < 96 * 90
    answers = first(answer(engine, [GenerationRequest(p, i, Sampling(4)) for i, p in enumerate(prompts)]))
    for i in (0, 50, 95):
        (alone,) = first(answer(engine, [GenerationRequest(prompts[i], i, Sampling(4))]))
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


@pytest.fixture
def small_buckets(engine, monkeypatch):
    """Send weights in several parts."""
    monkeypatch.setattr(shared_buffer, "BUCKET_BYTES", 1)
    engine._buffer = None
    yield
    engine._buffer = None


class BreaksOff(dict):
    """Weights whose sender fails after a number of tensors."""

    tensors = 20

    def items(self):
        for number, item in enumerate(super().items()):
            if number == self.tensors:
                raise EngineError("The sender failed.")
            yield item


def test_vllm_recovers_from_a_weight_update_that_failed_half_way(engine, transformers, base, small_buckets):
    answers = first(ask(transformers))[:2]
    engine.load_weights(base, 1)
    before = scores(engine, answers)
    changed = make_policy().export_weights()
    with pytest.raises(EngineError, match="The sender failed"):
        engine.thread.run(engine._replace(lambda: engine._send(BreaksOff(changed)), 2))
    assert engine.policy_version == 1
    assert engine.weights_digest() not in (transformers.weights_digest(), digest(changed))
    engine.load_weights(changed, 2)
    assert engine.weights_digest() == digest(changed)
    assert furthest(scores(engine, answers), before) > 0.1
    engine.load_weights(base, 3)
    assert furthest(scores(engine, answers), before) == 0


def test_vllm_tied_head_that_is_left_out_is_found(engine, transformers, base):
    policy = make_policy()
    sync = WeightSync(policy, engine)
    asyncio.run(sync.canary())
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(1.5)
    weights = policy.export_weights()
    assert weights.pop("lm_head.weight").data_ptr() == weights["model.embed_tokens.weight"].data_ptr()
    with pytest.raises(EngineError, match=r"1 missing \(lm_head.weight\)"):
        engine.load_weights(weights, 1)
    engine.thread.run(engine._replace(lambda: engine._send(weights), 1))
    with pytest.raises(EngineError, match="version 1 did not reach the engine: its digest is"):
        asyncio.run(sync.check(1))
    assert asyncio.run(sync.push(1))["sync_gap"] < 1e-3


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
    ((a,), (b,)) = answer(engine, [plain, adapted])
    assert float((score(merged(policy), b) - torch.tensor(b.log_probs)).abs().max()) < 1e-3
    assert float((score(engine, a) - torch.tensor(a.log_probs)).abs().max()) < 1e-3
    assert float((score(engine, b) - torch.tensor(b.log_probs)).abs().max()) > 0.1
    with pytest.raises(ReasonEnvsError, match="Did you mean 'planner'"):
        answer(engine, [GenerationRequest(PROMPTS[0], 0, GREEDY, adapter="planer")])
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


def test_vllm_plays_64_episodes(engine, base):
    policy = make_policy()
    policy.engine = engine
    tasks = make("chain_sum")
    environment = make_environment("single_turn_math", tasks=tasks)
    trajectories = asyncio.run(play(environment, policy, grouped([tasks.ordered(i, 0) for i in range(16)], 4, 0)))
    assert len(trajectories) == 64


def test_vllm_requests_join_those_that_run(engine):
    """A short request ends while a long one runs, and the event loop is free all the time."""
    ended = []

    async def run(name, tokens):
        await engine.generate(GenerationRequest([7], 0, Sampling(tokens, stop=("never",))))
        ended.append(name)

    async def both():
        long = asyncio.create_task(run("long", 300))
        await asyncio.sleep(0.05)
        await run("short", 2)
        await long

    start = time.perf_counter()
    silence = asyncio.run(longest_silence(both()))
    assert ended == ["short", "long"]
    assert silence < (time.perf_counter() - start) / 2


def test_vllm_aborts_requests_of_cancelled_callers(engine):
    async def cancelled():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await gather(*(engine.generate(GenerationRequest([i + 7], 0, Sampling(480), n=20)) for i in range(4)))
        while engine.thread.llm.get_num_unfinished_requests():
            await asyncio.sleep(0.01)

    async def main():
        async with asyncio.timeout(30):
            await cancelled()

    before = engine.generated_tokens
    asyncio.run(main())
    assert engine.generated_tokens == before
    assert first(ask(engine, Sampling(4)))


def test_vllm_works_in_several_event_loops(engine):
    request = GenerationRequest(PROMPTS[0], 0, GREEDY)

    async def both():
        return await gather(engine.generate(request), engine.generate(request))

    (one, _), (two, _) = asyncio.run(both()), asyncio.run(both())
    assert one[0].token_ids == two[0].token_ids


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
    choices = asyncio.run(policy.act(PROMPTS[:1] * 8, range(8), agents=agents))
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
    config = engine.thread.llm.vllm_config
    assert config.model_config.dtype == torch.float32
    assert (config.model_config.max_model_len, config.model_config.enforce_eager) == (512, True)
    assert engine.context_length == 512
    assert config.model_config.logprobs_mode == "processed_logprobs"
    assert (config.cache_config.kv_cache_memory_bytes, config.cache_config.enable_prefix_caching) == (2**28, True)
    assert (config.scheduler_config.max_num_seqs, config.scheduler_config.enable_chunked_prefill) == (96, False)
    assert (config.lora_config.max_lora_rank, config.lora_config.max_loras) == (8, 3)


def test_vllm_works_compiled_in_bfloat16(transformers, tmp_path):
    options = {"prefix_caching": False, "kv_cache_gib": 0.25, "tensor_parallel_size": 1}
    others = processes()
    engine = make_engine("vllm", device="cpu", dtype="bfloat16", **options)
    try:
        config = engine.thread.llm.vllm_config
        assert (config.model_config.dtype, config.model_config.enforce_eager) == (torch.bfloat16, False)
        assert (config.cache_config.enable_prefix_caching, config.lora_config) == (False, None)
        half = make_engine("transformers", device="cpu", dtype="bfloat16")
        answers = first(ask(engine))
        assert assert_same_greedy(answers, first(ask(half)), half) >= len(PROMPTS) // 2
        gaps = torch.cat([(a - b).abs() for a, b in zip(scores(engine, answers), scores(half, answers), strict=True)])
        assert float(gaps.mean()) < 0.03
        assert float(gaps.max()) < 0.5
        before = scores(engine, answers)
        engine.load_weights(transformers.model.state_dict(), 1)
        assert engine.weights_digest() == half.weights_digest()
        assert furthest(scores(engine, answers), before) == 0
        assert {g.policy_version for g in first(ask(engine))} == {1}
        with pytest.raises(ReasonEnvsError, match=r"Set max_lora_rank"):
            engine.load_weights(tmp_path, 1, "solver")
        started = processes() - others
        (core,) = [process for process in started if "EngineCore" in process.name()]
        core.kill()
        with pytest.raises(EngineError, match=r"vLLM failed in generate: .*See its messages above"):
            ask(engine, Sampling(200))
        with pytest.raises(EngineError, match="vLLM failed in pause_generation"):
            engine.load_weights(transformers.model.state_dict(), 2)
    finally:
        engine.close()
    assert psutil.wait_procs(started, timeout=60)[1] == []
    engine.close()
    with pytest.raises(ReasonEnvsError, match=r"VllmEngine is closed\. Build a new one"):
        ask(engine)


def test_vllm_failure_is_an_engine_error(engine):
    with pytest.raises(ReasonEnvsError, match=r"vLLM failed in collective_rpc: .*nowhere"):
        engine.thread.run(engine.thread.call(engine.thread.llm.collective_rpc, "nowhere"))


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


def test_vllm_run_trains(engine, base, monkeypatch, tmp_path):
    monkeypatch.setattr("agents.training.build.make_engine", lambda *_, **__: engine)
    options = ("steps=3", "algo.tasks_per_step=4", "algo.samples_per_task=4", "policy.max_tokens=48", "eval_every=0")
    train(make_run("embedded", tmp_path / "run", *options, "engine=vllm"))
    assert [row["step"] for row in rows(tmp_path / "run")][-1] == 3
    assert all(row["sync_gap"] < 1e-3 for row in rows(tmp_path / "run") if "sync_gap" in row)
