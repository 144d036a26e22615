"""The embedded model for workflows: demonstrations, tokens and card."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.embedded_models.workflow import demonstrations as demo
from benchmarks.embedded_models.workflow.card import SKILLS, _skill, card, held_out
from benchmarks.embedded_models.workflow.pretrain import WorkflowPretrainConfig, phrases
from benchmarks.embedded_models.workflow.programs import HABITS, MISTAKES, draw_program
from reason_envs.envs.workflow.interpreter import Interpreter
from reason_envs.envs.workflow.prompts import prompts
from reason_envs.envs.workflow.repair import prepare
from reason_envs.llm import embedded, make_engine
from reason_envs.llm.loading import load_tokenizer
from reason_envs.tasks.base import split_of

FOLDER = embedded.path("workflow")


@pytest.fixture(scope="module")
def skills():
    return json.loads((FOLDER / "skills.json").read_text())


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("embedded:workflow")


def test_programs_have_few_tokens_and_decode_unchanged(tokenizer):
    rng = Random(0)
    for domain in HABITS:
        for _ in range(200):
            text = draw_program(domain, rng)
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert len(ids) <= 16
            assert tokenizer.decode(ids) == text


def test_policy_prompt_equals_that_of_the_environment(tokenizer):
    task = demo.draw_task("qa", Random(1))
    assert demo.policy_prompt("qa", task) == prompts("brief").workflow("qa", task.question)
    assert len(tokenizer.encode(demo.policy_prompt("qa", task))) < 60


@pytest.mark.parametrize("domain", list(HABITS))
def test_good_programs_pass_the_check_and_mistakes_fail(domain):
    interpreter = Interpreter()

    async def check():
        for program in HABITS[domain]:
            prepared = prepare(program(domain))
            assert (prepared.verdict, prepared.repairs) == ("", ())
            assert await interpreter.check(prepared.source) == ""
        faults = 0
        for program in MISTAKES:
            prepared = prepare(program(domain))
            faults += bool(prepared.repairs or await interpreter.check(prepared.source))
        assert faults == 4  # a missing cost and a constant appear only at run time

    asyncio.run(check())


def test_demonstrations_have_problem_and_split():
    rng, source = Random(2), demo.WorkflowsAndOperators()
    drawn = [source.draw(rng, 5000) for _ in range(400)]
    assert all(d.problem in d.question for d in drawn)
    assert {d.split for d in drawn} == {"train", "test"}
    roles = [d.family == "policy" for d in drawn]
    assert sum(roles) / len(roles) == pytest.approx(demo.POLICY_SHARE, abs=0.07)
    assert all(split_of(task.question) == "test" for task in held_out("code", 20, 0))


def test_wrong_code_differs_from_the_reference():
    rng = Random(3)
    for _ in range(100):
        task = demo.draw_task("code", rng)
        assert demo._code(task, True, rng) != task.answer


def test_model_loads_and_is_small(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokenizer)
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) < 2.5e6
    known = tokenizer.get_vocab()
    assert all(phrase in known for phrase in phrases())


def test_card_is_written_from_the_skills(skills):
    assert (FOLDER / "MODEL_CARD.md").read_text() == card(skills)
    assert skills["training"]["schedule"]["steps"] == WorkflowPretrainConfig().schedule.steps
    assert skills["problems"] >= 512


def test_skills_can_be_reproduced(skills):
    engine = make_engine("transformers", model="embedded:workflow", device="cpu")
    for skill, known in list(zip(SKILLS, skills["skills"], strict=True))[::3]:
        assert _skill(engine, *skill, 96, seed=7)["sampled"] == pytest.approx(known["sampled"], abs=0.15), skill
