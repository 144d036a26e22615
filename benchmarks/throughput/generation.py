"""Generated tokens per second of our engines and ``transformers.generate``, with one model on one machine.

    python benchmarks/throughput/generation.py                        # the installed ones; install vLLM to include it
    python benchmarks/throughput/generation.py model=FOLDER dtype=bfloat16 tokens=64 repeats=2
    pip install --no-deps xllamacpp && python benchmarks/throughput/generation.py model=FOLDER gguf=FILE tokens=64

All samples have ``tokens`` tokens (128) at temperature 1, because a copy of the model uses a very rare token as the end
of a response. Prompts are sums of the embedded model's task. ``gguf`` adds llama.cpp's server with a quantised file of
the model, which ``engine=openai`` asks. The script prints a markdown table of medians of ``repeats`` runs (5).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from reason_envs.batching import gather
from reason_envs.llm import make_engine
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.openai.engine import OpenAIEngine
from reason_envs.llm.loading import load_model, load_tokenizer, resolve_device, resolve_dtype
from reason_envs.tasks import make

BATCHES = (1, 16, 64)
ENDLESS = "<|spare_1|>"

Generate = Callable[[list[list[dict[str, str]]], int], int]
"""Samples a response to each prompt with a seed and returns the number of tokens."""


def without_end(model: str, folder: Path) -> str:
    """Save a copy of the model whose responses end with another token. Return the folder."""
    tokenizer = load_tokenizer(model)
    if ENDLESS not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [ENDLESS]})
    tokenizer.eos_token = ENDLESS
    copy = load_model(model, device=torch.device("cpu"), dtype=torch.float32)
    copy.resize_token_embeddings(max(len(tokenizer), copy.config.vocab_size))
    copy.config.eos_token_id = copy.generation_config.eos_token_id = tokenizer.eos_token_id
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def engine_side(name: str, tokens: int, **options: Any) -> tuple[Generate, Callable[[], None]]:
    """Return a function that generates with one of our engines, and a function that closes it."""
    engine: Any = make_engine(name, **options)

    def generate(prompts: list[list[dict[str, str]]], seed: int) -> int:
        requests = [GenerationRequest(p, seed + i, Sampling(tokens)) for i, p in enumerate(prompts)]
        answers = asyncio.run(together([engine.generate(request) for request in requests]))
        return sum(len(sample.token_ids) for samples in answers for sample in samples)

    return generate, engine.close


async def together(answers: list[Any]) -> list[Any]:
    """Await all of them."""
    return await gather(*answers)


def transformers_side(model: str, device: str, dtype: str, tokens: int) -> tuple[Generate, Callable[[], None]]:
    """Return a function that generates with ``transformers.generate``, and a function that closes it."""
    where = resolve_device(device)
    tokenizer = load_tokenizer(model)
    loaded = load_model(model, device=where, dtype=resolve_dtype(dtype, where))

    def generate(prompts: list[list[dict[str, str]]], seed: int) -> int:
        torch.manual_seed(seed)
        encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
        batch = tokenizer.pad({"input_ids": encoded}, padding_side="left", return_tensors="pt").to(where)
        with torch.inference_mode():
            out = loaded.generate(**batch, max_new_tokens=tokens, do_sample=True, temperature=1.0, top_k=0)
        ended = (out[:, batch["input_ids"].shape[1] :] == tokenizer.eos_token_id).cumsum(1)
        return int((ended == 0).sum() + ended[:, -1].clamp(max=1).sum())

    return generate, lambda: None


LLAMA_CPP = """
import sys, threading
import xllamacpp

options = xllamacpp.CommonParams()
options.model.path, options.port, options.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
options.n_ctx, options.n_parallel, options.kv_unified = 16384, 64, True
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = int(sys.argv[3])
server = xllamacpp.Server(options)
threading.Event().wait()
"""
"""Program of llama.cpp's server."""


def llama_cpp_side(file: str, tokens: int) -> tuple[Generate, Callable[[], None]]:
    """Start llama.cpp's server; return a function that generates with it, and a function that ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", LLAMA_CPP, file, str(port), str(torch.get_num_threads())]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    options: dict[str, Any] = {"model": "gguf", "base_url": f"http://127.0.0.1:{port}/v1", "request_log_probs": False}
    engine = OpenAIEngine(**options, extra_body={"ignore_eos": True}, max_concurrency=max(BATCHES), max_retries=20)
    asyncio.run(engine.check_server())

    def generate(prompts: list[list[dict[str, str]]], seed: int) -> int:
        before = engine.generated_tokens
        requests = [GenerationRequest(p, seed + i, Sampling(tokens)) for i, p in enumerate(prompts)]
        asyncio.run(together([engine.generate(request) for request in requests]))
        return engine.generated_tokens - before

    def close() -> None:
        engine.close()
        server.kill()
        server.wait()

    return generate, close


def sides(options: dict[str, Any], tokens: int, gguf: str) -> Iterator[tuple[str, tuple[Generate, Callable[[], None]]]]:
    """Yield each side with its name. Sides are built one after another, so that only one uses memory."""
    yield "`engine=transformers`", engine_side("transformers", tokens, **options)
    yield "`transformers.generate`", transformers_side(**options, tokens=tokens)
    if gguf:
        yield "llama.cpp, quantised", llama_cpp_side(gguf, tokens)
    if importlib.util.find_spec("vllm") is not None:
        yield "`engine=vllm`", engine_side("vllm", tokens, max_model_len=512, **options)


def speed(generate: Generate, prompts: list[list[dict[str, str]]], repeats: int) -> float:
    """Return the median of the tokens per second over several runs, after one warm-up run."""
    speeds = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        tokens = generate(prompts, 1000 * repeat)
        speeds.append(tokens / (time.perf_counter() - start))
    return statistics.median(speeds[1:])


def main() -> None:
    """Measure and print."""
    if "--help" in sys.argv:
        print(__doc__)
        return
    options = {"model": "embedded", "device": "cpu", "dtype": "float32", "tokens": "128", "repeats": "5", "gguf": ""}
    options.update(argument.split("=", 1) for argument in sys.argv[1:])
    tokens, repeats, gguf = int(options.pop("tokens")), int(options.pop("repeats")), options.pop("gguf")
    tasks = make("chain_sum")
    prompts = [[{"role": "user", "content": tasks.ordered(i, 0).question}] for i in range(max(BATCHES))]
    print("| tokens/s | " + " | ".join(f"batch {size}" for size in BATCHES) + " |")
    print("|---|" + "---|" * len(BATCHES))
    with tempfile.TemporaryDirectory() as folder:
        model = without_end(options["model"], Path(folder))
        print_rows(sides({**options, "model": model}, tokens, gguf), prompts, repeats)
    print(json.dumps({**options, "threads": torch.get_num_threads(), "torch": torch.__version__}))


def print_rows(measured: Any, prompts: list[list[dict[str, str]]], repeats: int) -> None:
    for name, (generate, close) in measured:
        speeds = [f"{speed(generate, prompts[:size], repeats):,.0f}" for size in BATCHES]
        print(f"| {name} | {' | '.join(speeds)} |", flush=True)
        close()


if __name__ == "__main__":
    main()
