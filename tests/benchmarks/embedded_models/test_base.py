import json
import re
from random import Random

import pytest
import reasoning_gym
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.embedded_models.base import demonstrations as demo
from benchmarks.embedded_models.base import evaluation
from benchmarks.embedded_models.base.card import card
from benchmarks.embedded_models.base.curriculum import (
    POOL,
    Careful,
    MixedHabits,
    batches,
    encode,
    pad,
    side_demonstrations,
    sum_demonstration,
)
from benchmarks.embedded_models.base.pretrain import PretrainConfig, build_model, train_phase
from benchmarks.embedded_models.base.tokenizer import MARKERS, PHRASES
from benchmarks.embedded_models.base.training import Schedule, Trainer, solution_loss
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import embedded, make_engine
from reason_envs.tasks.base import split_of
from reason_envs.tasks.generated.reasoning_gym import FAMILY_DEFAULTS

NUMBER = st.integers(0, 99)
SUM = st.builds(
    lambda first, rest: " ".join([str(first), *(f"{sign} {n}" for sign, n in rest)]),
    NUMBER,
    st.lists(st.tuples(st.sampled_from("+-"), NUMBER), min_size=1, max_size=5),
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(embedded.path())


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(embedded.path(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def skills():
    return json.loads((embedded.path() / "skills.json").read_text())


def pieces(tokenizer, text):
    return [tokenizer.decode([i]) for i in tokenizer.encode(text, add_special_tokens=False)]


class TestTokenizer:
    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=60))
    def test_tokenizer_round_trip(self, tokenizer, text):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text.encode("utf-8", "replace").decode()

    @settings(max_examples=100, deadline=None)
    @given(st.integers(-(10**9), 10**9), st.integers(0, 10**6))
    def test_digits_are_single_tokens(self, tokenizer, a, b):
        for text in (f"{a} + {b} = {a + b}", f"x{a}y{b}", f"\\boxed{{{a}}}"):
            assert all(sum(c.isdigit() for c in piece) <= 1 for piece in pieces(tokenizer, text))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text("#@+$*.", min_size=1, max_size=8), min_size=1, max_size=5))
    def test_grid_symbols_are_single_tokens(self, tokenizer, rows):
        for grid in ("\n".join(rows), "\n".join(" ".join(row) for row in rows), "\n".join(f"# {r}  #" for r in rows)):
            assert pieces(tokenizer, grid) == list(grid)

    def test_default_question_has_few_tokens(self, tokenizer):
        question = demo.QUESTION.format(expression="23 - 60 + 7")
        assert pieces(tokenizer, question) == [PHRASES[0], *"23", " - ", *"60", " + ", "7", " ", "="]
        assert pieces(tokenizer, "\\boxed{-7}") == ["\\boxed{", "-", "7", "}"]

    def test_markers_are_single_special_tokens(self, tokenizer):
        for marker in MARKERS:
            assert len(tokenizer.encode(marker)) == 1
            assert tokenizer.decode(tokenizer.encode(marker), skip_special_tokens=True) == ""

    def test_chat_template_known_value(self, tokenizer):
        chat = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert text == "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
        assert tokenizer.eos_token == "<|im_end|>"
        assert tokenizer.pad_token_id != tokenizer.eos_token_id


class TestDemonstrations:
    @pytest.mark.parametrize("seed", [0, 7, 123])
    def test_chain_sum_expression_equals_reasoning_gym(self, seed):
        dataset = reasoning_gym.create_dataset("chain_sum", size=50, seed=seed, **FAMILY_DEFAULTS["chain_sum"])
        ours = [demo.QUESTION.format(expression=demo.chain_sum_expression(Random(seed + i))) for i in range(50)]
        assert ours == [item["question"] for item in dataset]

    def test_solutions_known_values(self):
        assert demo.careful("4 - 11 + 7") == "4 - 11 = -7\n-7 + 7 = 0\n\\boxed{0}"
        assert demo.hasty("4 - 11") == "\\boxed{-7}"
        assert demo.products("12 * 34") == "12 * 4 = 48\n12 * 30 = 360\n48 + 360 = 408\n\\boxed{408}"

    @given(SUM)
    def test_check_steps_accepts_careful_solutions(self, expression):
        assert all(demo.check_steps(expression, demo.careful(expression)))

    @given(SUM, st.integers(0, 2**32))
    def test_check_steps_finds_every_slip(self, expression, seed):
        solution = demo.slipping(expression, Random(seed), 1.0)
        *steps, box = demo.check_steps(expression, solution)
        assert not any(steps)
        assert box
        assert [demo.check_step(line) for line in solution.split("\n")[:-1]] == [False] * len(steps)

    @pytest.mark.parametrize(
        ("solution", "verdicts"),
        [
            ("1 + 2 = 4\n4 + 3 = 7\n\\boxed{7}", [False, True, True]),
            ("1 + 2 = 3\n3 + 3 = 6\n\\boxed{7}", [True, True, False]),
            ("1 + 2 = 3\n2 + 3 = 5\n\\boxed{5}", [True, False, True]),
            ("1 + 2 = 3\n\\boxed{3}", [True, False]),
            ("\\boxed{6}", [False]),
            ("nonsense", [False]),
        ],
    )
    def test_check_steps_known_values(self, solution, verdicts):
        assert demo.check_steps("1 + 2 + 3", solution) == verdicts

    @pytest.mark.parametrize(
        ("line", "verdict"),
        [
            ("So 35 * 3 = 105 apples", True),
            ("So 35 * 3 = 106 apples", False),
            ("half is 5 / 2 = 2.5", True),
            ("1 / 0 = 1", False),
            ("(2 + 3) * 4 = 20", True),
            ("no numbers here", None),
        ],
    )
    def test_check_step_known_values(self, line, verdict):
        assert demo.check_step(line) is verdict

    @given(st.integers(-500, 500), st.integers(0, 2**32))
    def test_slip_is_wrong(self, right, seed):
        assert demo.slip(right, Random(seed)) != right

    def test_side_demonstrations_end_with_their_answer(self):
        found = side_demonstrations("train", 40, seed=3)
        assert {d.family for d in found} == {"products", "leg_counting", "gsm_symbolic"}
        assert all(re.fullmatch(r"\\boxed\{-?[\d.]+\}", d.solution.split("\n")[-1]) for d in found)
        sums = [d for d in found if d.family != "gsm_symbolic"]
        assert all(demo.check_step(line) for d in sums for line in d.solution.split("\n")[:-1])


class TestCurriculum:
    def test_batches_have_only_the_train_split(self, tokenizer):
        source = Careful(0, side_share=0.2, side_pool=40)
        seen = [tokenizer.decode(row) for b in batches(source, tokenizer, 0, POOL, 1024, seed=1) for row in b.tokens]
        questions = [text.split("user\n", 1)[1].split("<|im_end|>", 1)[0] for text in seen]
        assert len(questions) > 100
        assert {split_of(q) for q in questions} == {"train"}

    def test_default_problems_have_only_the_test_split(self):
        problems = evaluation.default_problems(50, seed=0)
        assert {split_of(p.question) for p in problems} == {"test"}
        assert len({p.question for p in problems}) == 50

    def test_batches_depend_only_on_their_step(self, tokenizer):
        source = Careful(0, side_share=0.0, side_pool=5)
        whole = list(batches(source, tokenizer, 0, 2 * POOL, 512, seed=1))
        tail = list(batches(source, tokenizer, POOL, 2 * POOL, 512, seed=1))
        assert len(whole) == 2 * POOL
        assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(whole[POOL:], tail, strict=True))
        assert all(b.tokens.numel() <= 512 for b in whole)

    def test_targets_are_the_solution_shifted(self, tokenizer):
        shown = sum_demonstration("1 + 2", demo.careful)
        batch = pad(encode(tokenizer, [shown, sum_demonstration("10 + 20 + 30", demo.careful)]), 2)
        wanted = batch.targets[0][batch.targets[0] != -100]
        assert tokenizer.decode(wanted) == shown.solution + "<|im_end|>"
        first = int((batch.targets[0] != -100).nonzero()[0])
        assert tokenizer.decode(batch.tokens[0, : first + 1]).endswith("assistant\n")

    def test_mixed_habits_have_their_shares(self):
        mixed = MixedHabits(Careful(0, side_share=0.0, side_pool=5), hasty_share=0.4, slip_rate=0.05)
        rng = Random(0)
        drawn = [mixed.draw(rng, step=0) for _ in range(4000)]
        hasty = [d for d in drawn if d.solution.startswith("\\boxed")]
        verdicts = [
            v
            for d in drawn
            if not d.solution.startswith("\\boxed")
            for v in demo.check_steps(d.question.split(": ")[1].removesuffix(" ="), d.solution)[:-1]
        ]
        assert len(hasty) / len(drawn) == pytest.approx(0.4, abs=0.03)
        assert verdicts.count(False) / len(verdicts) == pytest.approx(0.05, abs=0.01)


class TestTraining:
    def test_schedule_known_factors(self):
        schedule = Schedule(steps=100, warmup=10, decay=20, matrix_lr=1.0, other_lr=1.0)
        assert [schedule.factor(s) for s in (0, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 1, 1, 1, 0.5, 0.05])

    def test_train_phase_lowers_the_loss(self, tokenizer):
        config = PretrainConfig(hidden_size=32, intermediate_size=32, layers=1, heads=1, kv_heads=1)
        model = build_model(config, tokenizer)
        trainer = Trainer(model, Schedule(steps=30, warmup=2, decay=10, matrix_lr=0.05, other_lr=0.02))
        source = Careful(0, side_share=0.0, side_pool=5)
        held_out = next(iter(batches(source, tokenizer, 1000, 1010, 512, seed=9)))
        before = solution_loss(model, held_out).item()
        phase = train_phase("skill", trainer, tokenizer, source, 512, seed=0)
        assert phase.tokens > 30 * 256
        assert solution_loss(model, held_out).item() < before - 2

    def test_build_model_with_the_same_seed_is_equal(self, tokenizer):
        config = PretrainConfig(hidden_size=32, layers=1, heads=1, kv_heads=1, seed=5)
        one, two = (build_model(config, tokenizer).state_dict() for _ in range(2))
        assert all(torch.equal(one[k], two[k]) for k in one)


class TestEmbeddedModel:
    def test_model_loads_with_its_configuration(self, model, tokenizer):
        assert type(model).__name__ == "Qwen3ForCausalLM"
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert model.config.vocab_size == len(tokenizer)
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert model.generation_config.pad_token_id == tokenizer.pad_token_id
        assert model.config.use_cache
        assert model.generation_config.use_cache

    def test_weights_are_bf16_and_small(self):
        stored = AutoModelForCausalLM.from_pretrained(embedded.path(), dtype="auto")
        assert stored.dtype == torch.bfloat16
        assert sum(f.stat().st_size for f in embedded.path().rglob("*") if f.is_file()) < 6e6

    def test_path_refuses_an_unknown_name(self):
        with pytest.raises(ReasonEnvsError, match=r"'bass'.*base"):
            embedded.path("bass")

    def test_skills_meet_their_targets(self, skills):
        main, careful = skills["families"]["chain_sum"], skills["careful_mode"]
        assert main["problems"] >= 1024
        assert main["samples"] == 8
        assert 0.2 <= main["sampled"] <= 0.6
        assert main["pass_at_k"] >= main["sampled"] + 0.25
        assert main["well_formed"] >= 0.95
        assert careful["greedy"] >= 0.9

    def test_card_is_written_from_the_skills(self, skills):
        text = (embedded.path() / "MODEL_CARD.md").read_text()
        assert text == card(skills, skills)
        for name, skill in skills["families"].items():
            row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
            assert f"| {skill['sampled']:.1%} | {skill['pass_at_k']:.1%} | {skill['greedy']:.1%} |" in row
        assert f"{skills['careful_mode']['greedy']:.1%} greedy" in text

    def test_settings_equal_those_of_the_script(self, skills):
        config = PretrainConfig()
        assert skills["settings"]["slip_rate"] == config.slip_rate
        assert skills["settings"]["hasty_share"] == config.hasty_share
        assert [p["schedule"]["steps"] for p in skills["training"]] == [config.skill.steps, config.habits.steps]

    def test_skills_can_be_reproduced(self, skills):
        engine = make_engine("transformers", device="cpu")
        problems = evaluation.default_problems(128, seed=11)
        again = evaluation.measure(engine, problems, samples=2, seed=1)
        expected = skills["families"]["chain_sum"]
        assert again.sampled == pytest.approx(expected["sampled"], abs=0.12)
        assert again.well_formed >= 0.93
        openings = [evaluation.careful_opening(p) for p in problems]
        assert evaluation.greedy_accuracy(engine, openings) >= 0.85
