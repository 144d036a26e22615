import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import extract_answer
from reason_envs.rewards.math.extract import last_number

balanced = st.recursive(
    st.text(st.sampled_from("abc0123456789+-=.,^_ "), max_size=6),
    lambda inner: st.lists(inner.map(lambda s: "{" + s + "}"), max_size=3).map("".join),
    max_leaves=6,
)
prose = st.text(st.characters(exclude_characters="\\{}"), max_size=30)
said = prose.map(lambda text: f"so = {text} = so")  # offers no other answer


@given(before=said, earlier=balanced, between=said, answer=balanced, after=said)
def test_extract_answer_reads_the_last_box(before, earlier, between, answer, after):
    response = f"{before}\\boxed{{{earlier}}}{between}\\boxed{{{answer}}}{after}"
    assert extract_answer(response) == (answer.strip() or None)


@given(prose)
def test_extract_answer_without_a_box_is_none(response):
    assert extract_answer(response) is None


@given(said, st.integers())
def test_extract_answer_prefers_a_box_to_fallbacks(after, number):
    response = f"\\boxed{{x{number}}} {after}\n#### 7 8"
    assert extract_answer(response, ("####", "last_number")) == f"x{number}"


@pytest.mark.parametrize(
    ("response", "answer_fallbacks", "answer"),
    [
        (r"\boxed{\frac{1}{\sqrt{2}}}", (), r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} and \boxed{2", (), None),
        (r"\boxed{ }", (), None),
        ("so 12 then\n#### 1,234\nbye 5", (), None),
        ("so 12 then\n#### 1,234\nbye 5", ("####",), "1,234"),
        ("so 12 then\n#### 1,234\nbye 5", ("last_number",), "5"),
        ("so 12 then\n#### 1,234\nbye 5", ("####", "last_number"), "1,234"),
        ("so 12 then\n#### 1,234\nbye 5", ("last_number", "####"), "5"),
        ("I have 12 apples.", ("####", "last_number"), "12"),
        ("nothing", ("####", "last_number"), None),
        ("#### \n5", ("####",), None),
    ],
)
def test_extract_answer_tries_fallbacks_in_order(response, answer_fallbacks, answer):
    assert extract_answer(response, answer_fallbacks) == answer


@given(st.integers(-(10**9), 10**9))
def test_last_number_reads_any_integer(number):
    assert last_number(f"first 3, so it is {number:,}.") == f"{number:,}"
    assert last_number(f"it costs ${number}") == str(number)


def test_last_number_ignores_parts_of_words():
    assert last_number("in 3.5 of x2") == "3.5"
    assert last_number("version 1.2.3") == "1.2"


def test_extract_answer_refuses_unknown_fallbacks():
    with pytest.raises(ReasonEnvsError, match=r"fallbacks='last_numbr' is unknown\. Did you mean 'last_number'"):
        extract_answer("5", ("last_numbr",))
