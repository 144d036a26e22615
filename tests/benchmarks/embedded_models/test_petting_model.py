import asyncio
import json
from random import Random

import pytest
from transformers import AutoTokenizer

from benchmarks.embedded_models.petting.card import card
from benchmarks.embedded_models.petting.demonstrations import PettingEpisodes, environments
from benchmarks.embedded_models.petting.habits import (
    ANSWERS,
    BEST,
    COPIED,
    PRINTS,
    ROLES,
    best_kind,
    decision_success,
    respond,
)
from benchmarks.embedded_models.petting.pretrain import phrases
from benchmarks.embedded_models.petting.skills import measure
from reason_envs.llm import embedded
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.tasks.base import split_of

NAMES = [type(env).__name__ for env in environments("train")]


async def first_decisions(env, kinds, seed):
    """Let each role decide once with a kind of response, and return its success by role."""
    result, success = await env.reset(seed=seed), {}
    while not result.done and len(success) < len(env.roles):
        role = env.role
        result = await env.step({role: respond(env, kinds[role], Random(seed))})
        success[role] = decision_success(env, role)
    return success


def decisions(name, kind, problems=12):
    env = environments("train")[NAMES.index(name)]
    played = [asyncio.run(first_decisions(env.fork(), dict.fromkeys(env.roles, kind), s)) for s in range(problems)]
    return {role: [one[role] for one in played if role in one] for role in env.roles}


class TestHabits:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_best_response_succeeds(self, name):
        for role, rights in decisions(name, BEST).items():
            assert min(rights) >= (0.5 if role == "tester" else 1.0), role

    @pytest.mark.parametrize("name", NAMES)
    def test_a_broken_response_fails(self, name):
        assert all(max(rights) == 0 for rights in decisions(name, "broken").values())

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("kind", ["partial", "rash", "random"])
    def test_other_kinds_succeed_less_often(self, name, kind):
        for role, rights in decisions(name, kind, 24).items():
            if (role, kind) != (
                "reasoner",
                "rash",
            ):  # states the correct sum without steps, which no small model can do
                assert sum(rights) / len(rights) < 0.9, role

    def test_best_kind_of_the_planner_copies_a_successful_plan(self):
        env = environments("train")[0]

        async def play(kind):
            await env.reset(seed=3)
            await env.step({"tool": respond(env, kind, Random(0))})
            return best_kind(env)

        assert asyncio.run(play(BEST)) == COPIED
        assert asyncio.run(play("partial")) == BEST

    def test_shares_sum_to_one(self):
        assert sum(PRINTS.values()) == pytest.approx(1)
        assert sum(ANSWERS.values()) == pytest.approx(1)
        assert set(ROLES) == {(type(env), role) for env in environments("train") for role in env.roles}


class TestDemonstrations:
    def test_petting_episodes_are_reproducible_and_of_the_train_split(self):
        drawn = []
        for _ in range(2):
            source, rng = PettingEpisodes(0.5), Random(7)
            drawn.append([source.draw(rng, 0) for _ in range(200)])
        assert drawn[0] == drawn[1]
        assert {d.family for d in drawn[0]} == set(NAMES)
        assert all(split_of(d.problem) == d.split == "train" for d in drawn[0])

    def test_later_prompts_have_earlier_decisions(self):
        source, rng = PettingEpisodes(0.0), Random(1)
        shown = [source.draw(rng, 0).question for _ in range(100)]
        assert any("\ntool: # " in text and "\n= " in text for text in shown)


class TestModel:
    @pytest.fixture(scope="class")
    def facts(self):
        return json.loads((embedded.path("petting") / "skills.json").read_text())

    def test_success_at_default_difficulty_leaves_room_to_learn(self, facts):
        assert set(facts["skills"]) == set(NAMES)
        for name, skill in facts["skills"].items():
            assert 0.1 <= skill["success"] <= 0.7, name
            for role, share in skill["first"].items():
                assert 0.02 <= share <= 0.7, (name, role)

    def test_card_is_written_from_the_skills(self, facts):
        assert (embedded.path("petting") / "MODEL_CARD.md").read_text() == card(facts)

    def test_skills_can_be_reproduced(self, facts):
        engine = TransformersEngine(model="embedded:petting", device="cpu")
        env = environments("test")[0]
        found = measure(env, engine, 128, 1.0, seed=5)
        assert found.success == pytest.approx(facts["skills"]["PettingPlanPath"]["success"], abs=0.15)

    def test_fixed_texts_are_single_tokens(self):
        tokenizer = AutoTokenizer.from_pretrained(embedded.path("petting"))
        assert [len(tokenizer.encode(text, add_special_tokens=False)) for text in phrases()] == [1] * len(phrases())
