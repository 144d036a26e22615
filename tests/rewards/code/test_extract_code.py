"""Which block of a response is its code."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.rewards.code.extract import extract_code

F, T, CODE = "```", "~~~", "x = 1\nif x:\n    print('a\\tb')\n"
RESPONSES = {
    "python": f"{F}python\n{CODE}{F}",
    "py": f"Text\n{F}py\n{CODE}{F}\ntext",
    "no language": f"{F}\n{CODE}{F}",
    "python3": f"{F}python3\n{CODE}{F}",
    "Python 3": f"{F}Python 3\n{CODE}{F}",
    "python3.11": f"{F}python3.11\n{CODE}{F}",
    "PYTHON": f"{F}PYTHON\n{CODE}{F}",
    "ipython": f"{F}ipython\n{CODE}{F}",
    "blank before the language": f"{F} python\n{CODE}{F}",
    "blank after the language": f"{F}python  \n{CODE}{F}  ",
    "attributes": f'{F}python title="a.py" {{1,2}}\n{CODE}{F}',
    "language in braces": f"{F}{{.python}}\n{CODE}{F}",
    "tildes": f"{T}python\n{CODE}{T}",
    "tildes after backticks": f"{F}text\n{T}\n{F}\n{T}python\n{CODE}{T}",
    "four backticks": f"````python\n{CODE}````",
    "closing fence is longer": f"{F}python\n{CODE}`````",
    "never closed": f"{F}python\n{CODE}",
    "text, then python": f"{F}text\nidea\n{F}\n{F}python\n{CODE}{F}",
    "cpp, then python": f"{F}cpp\nint x;\n{F}\n\n{F}python\n{CODE}{F}",
    "bash, then never closed": f"{F}bash\npip\n{F}\n{F}python\n{CODE}",
    "python, then bash": f"{F}python\n{CODE}{F}\n{F}bash\nrun\n{F}",
    "python, then output": f"{F}python\n{CODE}{F}\nOutput:\n{F}\na b\n{F}",
    "python, then output never closed": f"{F}python\n{CODE}{F}\n{F}\na b",
    "two python blocks": f"{F}python\ny\n{F}\nNo:\n{F}python\n{CODE}{F}",
    "no language, then json": f"{F}\n{CODE}{F}\n{F}json\n1\n{F}",
    "only another language": f"{F}text\n{CODE}{F}",
    "windows line ends": f"{F}python\n{CODE}{F}\n".replace("\n", "\r\n"),
    "after text": f"Here it is: {F}python\n{CODE}{F}",
    "in markdown": f"{F}markdown\n# Title\n{F}python\n{CODE}{F}\n{F}",
    "in longer markdown": f"````markdown\n{F}python\n{CODE}{F}\n````",
    "opened twice": f"{F}python\n{F}python\n{CODE}{F}",
    "opened in the prompt": f"{CODE}{F}",
    "opened in the prompt, then a line break": f"{CODE}{F}\n",
    "opened in the prompt, then text": f"{CODE}{F}\nThis prints a text.",
    "text, then not closed": f"This prints a text.\n{F}\n{CODE}",
    "in tags": f"[PYTHON]\n{CODE}[/PYTHON]\nThis prints a text.",
    "after a thought": f"<think>\n{F}python\nno\n{F}\n</think>\n{F}python\n{CODE}{F}",
    "indented": "  " + f"{F}python\n{CODE}{F}".replace("\n", "\n  "),
    "in a list": "1. Text\n\n    " + f"{F}python\n{CODE}{F}".replace("\n", "\n    "),
    "list item": "- " + f"{F}python\n{CODE}{F}".replace("\n", "\n  "),
    "quoted": "> " + f"{F}python\n{CODE}{F}".replace("\n", "\n> "),
    "no fence": CODE,
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_extract_code_finds_the_code(response):
    assert extract_code(response).rstrip("\n") == CODE.rstrip("\n")


DOCUMENTED = f'def f():\n    """\n    {F}python\n    f()\n    {F}\n    """\n    return "{F}"\n'


@pytest.mark.parametrize("end", ["", F, f"{F}\nDone."])
def test_extract_code_keeps_fences_in_docstrings(end):
    assert extract_code(f"{F}python\n{DOCUMENTED}{end}").rstrip("\n") == DOCUMENTED.rstrip("\n")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (f"{F}python\n    return x\n{F}", "    return x\n"),
        (f"{F}python\nprint(1){F}", "print(1)\n"),
        (f"{F}python\n{F}", ""),
        (f"{F}\n{F}", ""),
        (f"{F}\n1\n{F}\n{F}\n2\n{F}", "2\n"),
        ("x = '~~~'\ny = 2", "x = '~~~'\ny = 2"),
    ],
)
def test_extract_code_known_values(response, code):
    assert extract_code(response) == code


@given(st.text(st.sampled_from("`~ \n>-1apython\"'\r"), max_size=80))
def test_extract_code_accepts_any_text(response):
    assert isinstance(extract_code(response), str)


@pytest.mark.parametrize("piece", ["`", "```", "``` ", "```\n", "```py\n", "~~~`", "~", "> ", "- "])
def test_extract_code_is_fast_on_long_responses(piece):
    started = time.perf_counter()
    extract_code(piece * 5000)
    assert time.perf_counter() - started < 2
