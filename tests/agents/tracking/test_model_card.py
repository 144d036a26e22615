"""Final policies: folders that load without this package, model cards, and the upload to the hub."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from run_toys import make_run, overrides, train

from agents.config.compose import compose_config
from agents.policies.language import LanguagePolicy, LanguagePolicyConfig
from agents.policies.roles import RolePolicy
from agents.reward_model.labels import LabelledSolution, append_labels
from agents.reward_model.train import PARTS, RewardModelConfig, train_reward_model
from agents.tracking import hub
from agents.tracking.metrics_file import MetricsFile
from agents.tracking.model_card import hub_name, write_cards
from agents.tracking.run_record import record_start
from agents.training.folder import check_start, write_config
from agents.training.resolve import resolve
from agents.training.saving import export
from reason_envs.errors import ReasonEnvsError

KINDS = {
    "full": (),
    "lora": ("policy.lora_rank=4",),
    "roles": ("env=petting_plan_path", "policy.lora_rank=4", "policy.sharing=lora_per_role"),
}
ELSEWHERE = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

base, final, scorer = sys.argv[1:]
ids = torch.arange(20, 30)[None]
models = {
    "full": AutoModelForCausalLM.from_pretrained(f"{final}/full/policy_final"),
    "lora": PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), f"{final}/lora/policy_final"),
    "planner": PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), f"{final}/roles/policy_final", subfolder="planner"
    ),
    "scorer": AutoModelForTokenClassification.from_pretrained(scorer, dtype=torch.float32),
}
with torch.no_grad():
    found = {name: model.eval()(input_ids=ids).logits.double().sum().item() for name, model in models.items()}
found["words"] = len(AutoTokenizer.from_pretrained(f"{final}/full/policy_final"))
found["ours"] = [m for m in sys.modules if m.partition(".")[0] in ("agents", "reason_envs")]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def finals(tiny_model, tmp_path_factory):
    """Run folders with final policies, written by the code of a run. Their weights differ from the base model."""
    base, policies = tmp_path_factory.mktemp("finals"), {}
    for kind, options in KINDS.items():
        folder = base / kind
        folder.mkdir()
        given = [f"policy.model={tiny_model}", f"output_dir={folder}", "algo=grpo", "policy.device=cpu", *options]
        write_config(folder, compose_config(given))
        metrics = MetricsFile(folder / "metrics.jsonl")
        metrics.append(0, {"eval/accuracy": 0.25})
        metrics.append(1, {"reward": 0.5})
        metrics.append(1, {"eval/accuracy": 0.75})
        record_start(folder, "python -m agents.train algo=grpo", resuming=False)
        rank = {} if kind == "full" else {"lora_rank": 4}
        config = LanguagePolicyConfig(model=tiny_model, device="cpu", **rank)
        if kind == "roles":
            config.sharing = "lora_per_role"
            policy = RolePolicy(config, ["tool", "planner"])
        else:
            policy = LanguagePolicy(config)
        with torch.no_grad():
            for i, parameter in enumerate(policy.parameters()):
                parameter.add_(0.01 * (i % 7 + 1))
        export(resolve(compose_config(given)), policy, 1)
        policies[kind] = policy
    return base, policies


@pytest.fixture(scope="module")
def scorer(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    steps = [LabelledSolution(f"t{i}", f"Problem {i}", ("a", "b"), (1.0, i % 2), correct=bool(i % 2)) for i in range(8)]
    for part in PARTS:
        append_labels(folder / f"{part}.jsonl", steps)
    options = {"labels_from": str(folder), "model": tiny_model, "device": "cpu", "epochs": 1}
    return train_reward_model(RewardModelConfig(output_dir=str(folder / "model"), **options))


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(20, 30)[None]).logits.double().sum().item()


def test_final_policies_load_without_this_package(finals, scorer, tiny_model, tmp_path):
    base, policies = finals
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, tiny_model, str(base), str(scorer)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ours"] == []
    assert found["words"] == len(policies["full"].tokenizer)
    ours = {"full": policies["full"], "lora": policies["lora"], "planner": policies["roles"].roles["planner"]}
    for name, policy in ours.items():
        assert found[name] == pytest.approx(logits(policy.model), rel=1e-5), name
    assert len({found[name] for name in ours}) == 3


@pytest.mark.parametrize(
    ("folder", "library"), [("full", "transformers"), ("lora", "peft"), ("roles/policy_final/planner", "peft")]
)
def test_cards_hold_configuration_metrics_and_command(finals, folder, library):
    path = finals[0] / folder
    card = ModelCard.load(path / "README.md" if "roles" in folder else path / "policy_final" / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == (library, "text-generation")
    assert card.data.base_model is None  # the hub does not know a folder
    assert {"reason-envs", "grpo"} <= set(card.data.tags)
    assert card.data.eval_results[0].metric_value == 0.75
    assert "```bash\npython -m agents.train algo=grpo\n```" in card.text
    assert "| eval/accuracy | 0.25 (step 0) | 0.75 (step 1) |" in card.text
    assert "tasks_per_step:" in card.text
    assert "from_pretrained" in card.text
    assert ("subfolder='planner'" in card.text) == ("planner" in folder)


@pytest.mark.parametrize("role", ["", "planner"])
def test_code_of_an_adapter_card_runs(tmp_path, role):
    (tmp_path / "run").mkdir()
    write_config(tmp_path / "run", compose_config(["policy.lora_rank=4", f"output_dir={tmp_path / 'run'}"]))
    policy = LanguagePolicy(LanguagePolicyConfig(model="embedded", device="cpu", lora_rank=4))
    before = logits(policy.model)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05)
    final = tmp_path / "run" / "policy_final"
    policy.save_pretrained(final / role)
    write_cards(final, tmp_path / "run")
    (code,) = re.findall(r"```python\n(.*?)```", (final / role / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(code.replace("'PATH'", repr(str(final))), names)
    # The code of the card loads the base model with its stored 16 bits.
    assert logits(names["model"]) == pytest.approx(logits(policy.model), rel=0.02)
    assert before != pytest.approx(logits(policy.model), rel=0.1)
    assert len(names["tokenizer"]) == len(policy.tokenizer)


def test_card_of_several_roles_links_each(finals):
    text = (finals[0] / "roles" / "policy_final" / "README.md").read_text()
    assert "* [planner](planner/README.md)" in text
    assert "* [tool](tool/README.md)" in text


def test_card_of_a_step_reward_model_has_metadata(scorer):
    card = ModelCard.load(scorer / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "token-classification")
    assert card.data.eval_results[0].metric_type == "roc_auc"


@pytest.mark.parametrize(
    ("name", "known"), [("Qwen/Qwen2.5-7B", True), ("embedded:workflow", False), ("/models/mine", False), (None, False)]
)
def test_hub_name_is_none_unless_the_hub_knows_the_model(name, known):
    assert hub_name(name) == (name if known else None)


# --- the hub


class Hub(BaseHTTPRequestHandler):
    """Stand-in for the hub that records the requests for repositories and commits."""

    requests: list = []  # noqa: RUF012
    files: dict = {}  # noqa: RUF012

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        Hub.requests.append((self.path, self.headers["Authorization"], body))
        if self.path.endswith("/repos/create"):
            self.answer({"url": f"{self.server.address}/me/adder", "id": "me/adder"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif self.path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    Hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitOid": "0", "commitUrl": f"{self.server.address}/me/adder/commit/0", "hookOutput": ""})

    def do_GET(self):
        self.answer({"siblings": [], "sha": "0", "id": "me/adder", "_id": "0", "private": True, "disabled": False})

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Log nothing."""


@pytest.fixture
def server(monkeypatch):
    Hub.requests, Hub.files = [], {}
    stand_in = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    stand_in.address = f"http://127.0.0.1:{stand_in.server_address[1]}"
    threading.Thread(target=stand_in.serve_forever, daemon=True).start()
    monkeypatch.setattr(hub, "get_token", lambda: "hf_test")
    monkeypatch.setattr(hub, "HfApi", partial(HfApi, endpoint=stand_in.address, token="hf_test"))
    yield stand_in
    stand_in.shutdown()
    stand_in.server_close()


def test_run_creates_a_private_repository_first_and_uploads_last(server, tiny_model, tmp_path):
    run = make_run(tiny_model, tmp_path / "run", "push_to_hub=adder", "steps=1", "eval_every=0")
    (created,) = Hub.requests
    assert created[0] == "/api/repos/create"
    asked = json.loads(created[2])
    assert asked["name"] == "adder"
    assert asked.get("visibility", "private" if asked.get("private") else "public") == "private"
    assert created[1] == "Bearer hf_test"
    assert train(run) is None
    final = tmp_path / "run" / "policy_final"
    sent = {path.name: path.read_bytes() for path in final.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= sent.keys()
    assert Hub.files == sent
    assert "The policy is at http://127.0.0.1" in (tmp_path / "run" / "train.log").read_text()


def test_missing_token_or_hub_is_an_error_before_the_model_loads(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    config = compose_config(overrides("embedded", tmp_path / "run", "push_to_hub=me/adder"))
    with pytest.raises(ReasonEnvsError, match=r"push_to_hub=me/adder requires a token .* `hf auth login`"):
        check_start(resolve(config))
    monkeypatch.setattr(hub, "get_token", lambda: "hf_test")
    monkeypatch.setattr(hub, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
    with pytest.raises(ReasonEnvsError, match=r"cannot create the repository .* leave push_to_hub out"):
        check_start(resolve(config))
    config = replace(config, push_to_hub="not a name!")
    with pytest.raises(ReasonEnvsError, match="cannot create the repository"):
        check_start(resolve(config))
    assert not (tmp_path / "run").exists()


def test_failed_upload_error_gives_the_command_to_repeat_it(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
    with pytest.raises(ReasonEnvsError, match=rf"is saved in {tmp_path}: upload it with `hf upload me/adder"):
        hub.push("me/adder", tmp_path, 3)
