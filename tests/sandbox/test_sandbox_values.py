"""Values of programs are decoded exactly, and forged ones are refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.sandbox import Opaque, Raised, literal
from reason_envs.sandbox.runner import encode_value
from reason_envs.sandbox.values import decode_value, finished, read_results

NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False)
SCALARS = st.none() | NUMBERS | st.text(max_size=20) | st.binary(max_size=20)
HASHABLE = SCALARS | st.lists(SCALARS, max_size=3).map(tuple) | st.frozensets(SCALARS, max_size=3)
PLAIN = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3),
    max_leaves=8,
)
LINES = PLAIN.map(lambda value: json.dumps(["value", encode_value(value)]))


@given(PLAIN)
def test_encode_value_preserves_types(value):
    back = decode_value(json.loads(json.dumps(encode_value(value))))
    assert back == value
    assert type(back) is type(value)


@given(PLAIN)
def test_literal_evaluates_to_its_value(value):
    back = eval(literal(value))
    assert back == value
    assert type(back) is type(value)


def test_literal_supports_special_numbers():
    assert math.isnan(decode_value(encode_value(math.nan)))
    assert math.isnan(eval(literal(math.nan)))
    assert decode_value(encode_value(7**9000)) == 7**9000
    assert eval(literal(7**9000)) == 7**9000
    assert decode_value(encode_value(-0.0)).hex() == "-0x0.0p+0"
    assert decode_value(encode_value(True)) is True


def test_encode_value_names_the_type_of_an_object_that_equals_everything():
    class Equal:
        def __eq__(self, other):
            return True

        __hash__ = None

    class EqualNumber(int):
        def __eq__(self, other):
            return True

        def __index__(self):
            return 42

        __hash__ = int.__hash__

    class FakeClass:
        __class__ = int

    assert decode_value(encode_value(Equal())) == Opaque("Equal")
    assert decode_value(encode_value(EqualNumber(5))) == 5
    assert decode_value(encode_value(EqualNumber(5))) != 42
    assert decode_value(encode_value(FakeClass())) == Opaque("FakeClass")
    assert decode_value(encode_value([Equal()])) != [1]


def test_encode_value_reads_the_content_of_a_forged_dictionary():
    class Lying(dict):
        def items(self):
            return [("a", 1)]

        def __eq__(self, other):
            return True

        __hash__ = None

    assert decode_value(encode_value(Lying(b=2))) == {"b": 2}


def test_encode_value_limits_nesting():
    value = []
    value.append(value)
    encoded = encode_value(value)
    assert "opaque" in json.dumps(encoded)
    with pytest.raises(ValueError, match="deep"):
        literal(value)


@pytest.mark.parametrize(
    "encoded",
    [{}, 1, 1.5, [], ["nothing"], ["int"], ["int", 5], ["int", "zz"], ["set", [["list", []]]], ["float", "x"],
     ["opaque", 1], ["bytes", "!"], ["dict", [[1]]], ["dict", [["list", []], 1]], ["list", 3], [["list"]],
     ["tuple", None]],
)  # fmt: skip
def test_read_results_refuses_forged_values(encoded):
    with pytest.raises(ValueError, match=r"malformed"):
        read_results(json.dumps(["value", encoded]))


@given(st.text() | LINES | LINES.map(lambda line: line[:-1]) | st.lists(LINES, max_size=3).map("\n".join))
def test_finished_returns_an_outcome_for_any_text(text):
    outcome = finished(text, "", "", 0.0, "unsaid")
    assert outcome.status in ("ok", "error", "memory", "killed")
    assert (outcome.status == "ok") == (outcome.reason == "")


def test_finished_keeps_values_of_a_program_that_ended_early():
    outcome = finished('["value", ["int", "0x1"]]\n["value", ["raised", "E", "E: x"]]\n', "", "", 0.0, "gone")
    assert (outcome.status, outcome.reason, outcome.values) == ("killed", "gone", (1, Raised("E", "E: x")))
