"""``policy=served``: a model that another program serves."""

import json
import re

import pytest
from openai_server import Server, choice, completion, reply

from agents import evaluate
from agents.config.compose import compose_config
from agents.policies.served import ServedPolicy, ServedPolicyConfig
from agents.training.start import train
from reason_envs.errors import OptionError, ReasonEnvsError


@pytest.fixture
def server():
    served = Server()
    yield served
    served.close()


def overrides(server):
    tasks = "env.tasks={name: chain_sum, min_terms: 2, max_terms: 2}"
    chosen = ["env=single_turn_math", "policy=served", "policy.model=served", "engine=openai", tasks]
    return [*chosen, f"engine.base_url={server.url}"]


def test_served_policy_is_evaluated_with_the_tokens_that_the_server_counts(server, tmp_path, capsys):
    def solve(body, number):
        first, sign, second = re.search(r"(-?\d+) ([+-]) (-?\d+)", body["messages"][-1]["content"]).groups()
        total = int(first) + int(second) * (1 if sign == "+" else -1)
        return reply(body=completion(choice(rf"\boxed{{{total}}}"), completion_tokens=7))

    def one_token(body, number):
        return reply(body=completion(choice("hi"), completion_tokens=1))

    server.script = lambda body, number: (solve if "hundred" not in str(body) else one_token)(body, number)
    file = tmp_path / "result.json"
    evaluate.main([*overrides(server), "tasks=3", "samples=2", "policy.max_tokens=50", f"output_file={file}"])
    assert "served: 3 problems of chain_sum x 2" in capsys.readouterr().out
    result = json.loads(file.read_text())["result"]
    assert (result["accuracy"], result["mean_tokens"]) == (1.0, 7.0)
    assert {body["max_tokens"] for body in server.bodies[1:]} == {50}
    assert len(server.bodies) == 1 + 6


def test_served_policy_has_the_defaults_of_models_that_do_not_ship_with_the_library(server):
    config = compose_config(overrides(server))
    assert "boxed" in config.env.system_prompt
    assert config.policy.max_tokens == 512


def test_served_policy_cannot_be_trained(server, tmp_path):
    with pytest.raises(OptionError, match="policy='served' cannot be trained"):
        train(compose_config([*overrides(server), f"output_dir={tmp_path / 'run'}", "steps=1"]))
    assert not server.bodies  # it is refused before anything is built
    policy = ServedPolicy(ServedPolicyConfig())
    for use in (policy.named_parameters, lambda: policy.evaluate([]), lambda: policy.save_pretrained(tmp_path)):
        with pytest.raises(OptionError, match=r"policy='served' cannot be trained: .* policy=language"):
            use()


def test_served_policy_stops_before_the_first_episode_if_the_server_refuses(server, capsys):
    server.script = lambda body, number: reply(status=401)
    with pytest.raises(SystemExit):
        evaluate.main([*overrides(server), "tasks=3"])
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert len(server.bodies) == 1


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"temperature": 0.0}])
def test_served_policy_refuses_impossible_options(options):
    with pytest.raises(ReasonEnvsError, match=next(iter(options))):
        ServedPolicyConfig(**options)
