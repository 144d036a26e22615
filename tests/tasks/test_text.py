import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.tasks.text import after_hashes, is_blank, last_boxed, normalise_number, strip_calculations

balanced = st.recursive(
    st.text(alphabet="ab1 +$", max_size=5),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        inner.map(lambda s: f"{{{s}}}"),
        inner.map(lambda s: f"\\{{{s}\\}}"),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{ 3 }", "3"),
        (r"\boxed {3}", "3"),
        (r"\fbox{4}", "4"),
        (r"\boxed{\left\{ x }", r"\left\{ x"),
        (r"\boxed{a \\}", r"a \\"),
        (r"\boxed{}", ""),
        (r"\boxed{1", None),
        (r"\boxed{1} then \boxed{2", None),
        (r"\boxed{\}", None),
        ("boxed{1}", None),
        ("", None),
    ],
)
def test_last_boxed_known_values(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


@given(before=st.text(alphabet="xy{}\\ "), content=balanced, after=st.text(alphabet="xy}{ "))
def test_last_boxed_returns_any_balanced_content(before: str, content: str, after: str) -> None:
    assert last_boxed(f"{before} \\boxed{{{content}}}{after}") == content.strip()


@given(st.text(alphabet="\\boxed{}fbx 1", max_size=40))
def test_last_boxed_returns_part_of_the_text(text: str) -> None:
    content = last_boxed(text)
    assert content is None or content in text


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("2 + 3 = 5\n#### 5", "5"),
        ("#### 1,234,567\nbye 5", "1,234,567"),
        ("#### 1 then #### -2", "-2"),
        ("#### 3.50", "3.50"),
        ("no marker", None),
        ("####  ", None),
        ("#### \n5", None),
    ],
)
def test_after_hashes_known_values(solution: str, answer: str | None) -> None:
    assert after_hashes(solution) == answer


def test_strip_calculations_removes_annotations() -> None:
    assert strip_calculations("He has 2*3=<<2*3=6>>6 and 6/4=$<<6/4=1.5>>1.5.") == "He has 2*3=6 and 6/4=$1.5."


@pytest.mark.parametrize(
    "answer", ["", " ", "\n\t", "$$", "$ $", r"\boxed{}", r"\boxed{ \, }", r"\text{}", r"\[ \]", r"\(\)", r"\$"]
)
def test_is_blank_of_answers_without_content(answer: str) -> None:
    assert is_blank(answer)


@pytest.mark.parametrize("answer", ["0", "-", "?", r"\pi", r"\boxed{0}", r"\textbf", r"\emptyset", "{ }0", r"\%"])
def test_is_blank_is_false_for_answers_with_content(answer: str) -> None:
    assert not is_blank(answer)


@pytest.mark.parametrize(
    ("given_answer", "normal"),
    [
        ("27.0", "27"),
        ("1,200", "1200"),
        ("1,200.50", "1200.50"),
        ("-3.", "-3"),
        ("27.0.", "27"),
        ("1,2345", "1,2345"),
        ("0.5", "0.5"),
        ("(1,200)", "(1,200)"),
    ],
)
def test_normalise_number_known_values(given_answer: str, normal: str) -> None:
    assert normalise_number(given_answer) == normal


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_normalise_number_reads_grouped_integers(value: int) -> None:
    assert normalise_number(f"{value:,}.00") == normalise_number(f"{value:,}") == str(value)
