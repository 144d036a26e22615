"""``python -m reason_envs.serve`` in a separate process, played by OpenEnv's client over loopback."""

import asyncio
import importlib.util
import json
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import gymnasium as gym
import numpy as np
import pytest
from openenv_toys import serving, start
from scripted_engine import ScriptedEngine

from agents import fit
from reason_envs import make_environment, serve
from reason_envs.adapters.controller import single_agent
from reason_envs.check import check_environment
from reason_envs.errors import EngineError

TESTS = Path(__file__).resolve().parents[1]
needs_openenv = pytest.mark.skipif(
    importlib.util.find_spec("openenv") is None, reason="openenv is not installed (extra [openenv])"
)
SMALL_TREE = {"max_depth": 4, "max_nodes": 12, "max_step_tokens": 16}
TREE_OPTIONS = [part for key, value in SMALL_TREE.items() for part in ("--option", f"{key}={value}")]
TOKEN = "a long secret"


@pytest.fixture(scope="module")
def tree():
    """A search tree with the embedded models that counts the calls of its generator."""
    with serving("served_toys:CountedTree-v0", "--engine", "embedded:base", *TREE_OPTIONS) as url:
        yield url


@pytest.fixture(scope="module")
def guarded():
    """A server with a token, at most two sessions, and a short timeout."""
    options = ("--option", "roles=single", "--max-sessions", "2", "--session-timeout", "1")
    with serving("PettingPlanPath-v0", *options, REASON_ENVS_TOKEN=TOKEN) as url:
        yield url


def client(url, **options):
    from openenv.core import GenericEnvClient

    return GenericEnvClient(base_url=url, connect_timeout_s=100, message_timeout_s=200, **options)


def with_token(url, token=TOKEN):
    return client(url, headers={"Authorization": f"Bearer {token}"})


def plain(value):
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


@needs_openenv
def test_served_episodes_equal_local_ones(tree):
    here = gym.make("ReasonTree-v0", **SMALL_TREE)
    with client(tree).sync() as there:
        for seed in (3, 4):
            seen, info = here.reset(seed=seed)
            result, done = there.reset(seed=seed), False
            assert result.reward is None
            while not done:
                assert result.observation["observation"] == plain(seen)
                assert {k: v for k, v in result.metadata.items() if k != "calls"} == plain(info)
                action = int(np.flatnonzero(info["action_mask"])[-1 if info["action_mask"][3] else 0])
                by_text = here.unwrapped.environment.action_names[action]
                seen, reward, terminated, truncated, info = here.step(action)
                done = terminated or truncated
                result = there.step({"text": f"I choose {by_text}."} if seed == 3 else {"action": action})
                assert (result.reward, result.done) == (reward, done)
            assert result.observation["terminated"] is terminated
            assert result.observation["messages"] == []
        assert there.state()["step_count"] > 0


@needs_openenv
def test_example_of_the_documentation_runs(tree, capsys):
    page = (TESTS.parent / "docs" / "other_libraries.md").read_text()
    block = re.search(r"^```python\n(.*?)^```", page.split("## OpenEnv")[1], re.MULTILINE | re.DOTALL)[1]
    exec(block.replace("http://127.0.0.1:8000", tree), {})
    assert re.fullmatch(r"-?\d\S* (True|False)\n", capsys.readouterr().out)


@pytest.fixture(scope="module")
def remote():
    """The environment of the documentation that plays the episodes of a server, and its options."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS / "data" / "their_parts" / "src")
        with serving("petting_plan_path", "--option", "roles=single", "--option", "max_turns=2") as url:
            yield "their_parts.remote:TheirRemote-v0", {"url": url, "action": "text", "observation": "messages"}


@needs_openenv
def test_environment_of_a_server_passes_the_checker(remote):
    name, options = remote
    results = check_environment(name, responses=(r"\boxed{U}",), **options)
    assert [result for result in results if result.status == "FAIL"] == []


@needs_openenv
def test_environment_of_a_server_is_trained(remote, tmp_path):
    name, options = remote
    fit(
        env={"name": name, **options},
        steps=1,
        output_dir=str(tmp_path / "run"),
        **{"policy.max_tokens": 8, "algo.tasks_per_step": 2, "algo.samples_per_task": 4, "eval_tasks": 4},
    )
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    (row,) = [row for row in map(json.loads, lines) if "loss" in row]
    assert row["reward"] < 0
    assert "engine_failures" not in row


@needs_openenv
def test_server_that_does_not_answer_is_named(remote):
    name, options = remote
    environment = make_environment(name, **{**options, "url": "http://127.0.0.1:9"})
    for call in (environment.check_servers, lambda: environment.reset(seed=0)):
        with pytest.raises(EngineError, match=r"127\.0\.0\.1:9.*Start the server"):
            asyncio.run(call())


@needs_openenv
def test_messages_are_those_of_the_agent_that_acts():
    options = {"roles": "team", "max_turns": 1}
    here = single_agent(make_environment("petting_plan_path", **options))
    with serving("petting_plan_path", "--option", "max_turns=1") as url, client(url).sync() as there:
        result, expected = there.reset(seed=7), asyncio.run(here.reset(seed=7))
        for text in ("print('R')", r"\boxed{R}"):
            assert result.observation["messages"] == here.render_messages(expected.observations["controller"])
            assert result.metadata["agent"] == expected.info["agent"]
            result = there.step({"text": text})
            expected = asyncio.run(here.step({"controller": text}))
            assert result.reward == expected.rewards["controller"]
        assert result.done
        task = {"question": "P.G", "answer": ""}
        assert "P.G" in there.reset(task=task).observation["messages"][-1]["content"]


@needs_openenv
def test_sessions_work_in_synchronous_code():
    from reason_envs.adapters.openenv import ReasonAction, Session

    session = Session(make_environment("single_turn_math"))
    assert not session.reset(seed=1).done
    assert session.step(ReasonAction(text="no idea")).reward == -0.5


async def together(calls):
    return await asyncio.gather(*calls)


@needs_openenv
@pytest.mark.slow
@pytest.mark.parametrize("count", [64, 200])
def test_simultaneous_sessions_share_generator_calls(tree, count):
    async def play():
        clients = [client(tree) for _ in range(count)]
        await together(c.connect() for c in clients)
        first = await together(c.reset(seed=i) for i, c in enumerate(clients))
        start, calls = time.perf_counter(), []
        for _ in range(3):
            results = await together(c.step({"text": "EXPAND"}) for c in clients)
            calls.append(max(result.metadata["calls"] for result in results))
        seconds = time.perf_counter() - start
        await together(c.close() for c in clients)
        return first, results, np.diff(calls), 3 * count / seconds

    first, results, calls, rate = asyncio.run(play())
    print(f"{count} sessions: {rate:.0f} steps/s, generator calls a round {calls.tolist()}")
    assert len({result.observation["messages"][-1]["content"] for result in first}) > count / 2  # different problems
    assert all(result.metadata["valid_action"] for result in results if result.metadata["action_mask"][0])
    assert calls.max() <= 8


@needs_openenv
def test_sessions_share_gathered_calls():
    """An expansion of the paper's tree draws several siblings at once."""
    from reason_envs.adapters.openenv import ReasonAction, Session

    engine = ScriptedEngine(lambda request, seed: f"step {seed}\n")
    environment = make_environment("reason_tree_paper", engine=engine, reward_model="random")

    async def play():
        sessions = [Session(environment.fork()) for _ in range(32)]
        await together(session.reset_async(seed=i) for i, session in enumerate(sessions))
        return await together(session.step_async(ReasonAction(text="EXPAND")) for session in sessions)

    assert all(result.metadata["valid_action"] for result in asyncio.run(play()))
    assert engine.batcher.requests >= 2 * 32
    assert engine.batcher.calls <= 8


@needs_openenv
def test_wrong_requests_get_explanations(tree):
    with client(tree).sync() as there:
        with pytest.raises(RuntimeError, match="call reset first"):
            there.step({"text": "EXPAND"})
        there.reset(seed=1)
        for wrong in ({}, {"text": "EXPAND", "action": 0}):
            with pytest.raises(RuntimeError, match="needs either text or action"):
                there.step(wrong)
        with pytest.raises(RuntimeError, match="answer must be given"):
            there.reset(task={"question": "1 + 1?"})
        result = there.step({"text": "gibberish"})
        assert (result.done, result.metadata["valid_action"]) == (False, False)


@needs_openenv
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_stops_during_a_step_without_a_traceback(number):
    async def play():
        there = client(url)
        result = await there.reset(seed=1)
        with pytest.raises(RuntimeError, match="returned the reward inf"):
            await there.step({"text": "owe"})
        waiting = asyncio.create_task(there.step({"text": "wait"}))
        await asyncio.sleep(0.5)
        process.send_signal(number)
        with pytest.raises(Exception, match="1012"):
            await waiting
        return result

    url, process = start("served_toys:SlowToy-v0", stderr=subprocess.PIPE)
    assert not asyncio.run(play()).done
    assert process.wait(30) == 0
    assert "Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


@needs_openenv
def test_requests_need_the_token(guarded):
    for wrong in (client(guarded), with_token(guarded, "guess"), with_token(guarded, "")):
        with pytest.raises(ConnectionError, match="403"):
            asyncio.run(wrong._connect_async())
    with pytest.raises(HTTPError, match="401"):
        urllib.request.urlopen(f"{guarded}/schema")
    with with_token(guarded).sync() as there:
        assert not there.reset(seed=1).done


@needs_openenv
def test_web_pages_cannot_reach_a_server_on_loopback(tree):
    with pytest.raises(ConnectionError, match="403"):
        asyncio.run(client(tree, headers={"Origin": "https://example.org"})._connect_async())
    request = urllib.request.Request(f"{tree}/reset", b"{}", {"Origin": "null", "Content-Type": "application/json"})
    with pytest.raises(HTTPError, match="403"):
        urllib.request.urlopen(request)


@needs_openenv
@pytest.mark.slow
def test_sessions_are_limited_and_end_with_their_client_or_a_timeout(guarded):
    async def play():
        first, second, third, fourth = (with_token(guarded) for _ in range(4))
        await together(c.reset(seed=1) for c in (first, second))
        with pytest.raises(RuntimeError, match="2/2"):
            await third.reset(seed=1)
        await first.close()
        await eventually(lambda: fourth.reset(seed=1), 5)  # in place of the first
        await asyncio.sleep(6)  # the server checks for idle sessions every five seconds
        with pytest.raises(RuntimeError, match="because it was idle"):
            await eventually(lambda: second.step({"text": "U"}), 0)
        for c in (second, third, fourth):
            await c.close()

    asyncio.run(play())


async def eventually(call, seconds):
    """Retry while the server is full, because ended sessions are removed with a delay."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["RaisonTree-v0"], "Unknown environment 'RaisonTree-v0'. Did you mean 'ReasonTree-v0'"),
        (["ReasonTree-v0", "--option", "depth=3"], "depth=3 is not an option of environment 'ReasonTree-v0'"),
        (["single_turn_math", "--engine", "embedded:base"], "is not an option of environment 'single_turn_math'"),
        (["ReasonTree-v0", "--engine", "embedded:nothing"], "nothing"),
        (["ReasonTree-v0", "--option", "depth"], "key=value"),
        (["nothing_here:ReasonTree-v0"], "nothing_here"),
        (["single_turn_math", "--host", "127.0.0.1", "--port", "BUSY"], "Address already in use. Choose another port"),
    ],
)
@needs_openenv
def test_invalid_commands_are_explained(arguments, error, capsys):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        number = str(busy.getsockname()[1])
        assert serve.main([number if part == "BUSY" else part for part in arguments]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_invalid_ports_are_rejected(port, capsys):
    assert serve.main(["single_turn_math", f"--port={port}"]) == 2
    assert f"port={port} must lie in [0, 65535]" in capsys.readouterr().err


@needs_openenv
@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_addresses_are_printed_with_brackets():
    with serving("single_turn_math", "--host", "::1") as url:
        assert re.fullmatch(r"http://\[::1\]:\d+", url)
        assert urllib.request.urlopen(f"{url}/health").status == 200


@needs_openenv
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_hosts_need_a_token(host, capsys, monkeypatch):
    monkeypatch.delenv(serve.TOKEN, raising=False)
    assert serve.main(["ReasonTree-v0", "--host", host]) == 2
    assert serve.TOKEN in capsys.readouterr().err


@pytest.mark.parametrize(
    ("token", "headers", "passes"),
    [
        ("", {}, True),
        ("", {b"origin": b"http://localhost"}, False),
        ("", {b"origin": b"http://localhost:8000", b"host": b"localhost:8000"}, True),
        ("", {b"origin": b"http://localhost:3000", b"host": b"localhost:8000"}, False),
        ("", {b"origin": b"http://evil.com", b"host": b"evil.com"}, False),
        ("", {b"origin": b"null", b"host": b"localhost:8000"}, False),
        *(("", {b"host": host}, True) for host in (b"localhost", b"localhost:1", b"127.0.0.1:8000", b"[::1]:80")),
        *(
            ("", {b"host": host}, False)
            for host in (b"evil.com", b"evil.com:8000", b"", b"[", b"127.0.0.1.evil.com", b"\xff")
        ),
        ("s", {b"authorization": b"Bearer s", b"host": b"my.server:80"}, True),
        ("s", {b"authorization": b"Bearer s"}, True),
        ("s", {b"authorization": b"Bearer s", b"origin": b"http://localhost"}, True),
        ("s", {b"authorization": b"Bearer S"}, False),
        ("s", {b"authorization": b"s"}, False),
        ("s", {b"authorization": "Bearer \u00e9".encode()}, False),
        ("s", {}, False),
    ],
)
def test_guard_admits_requests_by_token_or_origin(token, headers, passes):
    assert serve.Guard(None, token).admits(headers) is passes


@needs_openenv
def test_web_page_and_metadata_describe_the_environment():
    with serving("petting_plan_path", "--option", "roles=single", ENABLE_WEB_INTERFACE="true") as url:

        def answer(path, data=None, origin=url):
            headers = {"Content-Type": "application/json", "Origin": origin}
            with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=60) as response:
                return response.read()

        metadata = json.loads(answer("/metadata"))
        assert metadata["name"] == "PettingPlanPath"
        assert metadata["description"].startswith("Roles ")
        assert b"<html" in answer("/web/")
        assert json.loads(answer("/web/reset", b"{}"))["observation"]["messages"]
        assert json.loads(answer("/web/step", b'{"action": {"text": "U"}}'))["done"] is False
        with pytest.raises(HTTPError, match="403"):
            answer("/web/reset", b"{}", "http://example.org")


def test_engine_argument_is_an_engine_or_a_model():
    assert serve.engine_options("embedded:base") == ["engine.name=transformers", "engine.model=embedded:base"]
    assert serve.engine_options("vllm") == ["engine.name=vllm"]


def test_missing_openenv_is_explained(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert serve.main(["ReasonTree-v0"]) == 2
    assert "reason-envs[openenv]" in capsys.readouterr().err
