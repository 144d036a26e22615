"""Good and bad workflow programs in the format of AFlow, composed of a few fixed texts.

Each text is one token of the embedded model ``workflow`` (see ``PIECES``), so a program is about a dozen tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

CAREFUL, OPEN, HASTY = "Work step by step.", "Solve the problem.", "Answer at once."
"""Instructions for operators."""
HEAD = (
    "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
    "        self.llm = create_llm_instance(llm_config)\n"
)
INITS = {
    "custom": "        self.custom = operator.Custom(self.llm)\n",
    "answer_generate": "        self.answer_generate = operator.AnswerGenerate(self.llm)\n",
    "programmer": "        self.programmer = operator.Programmer(self.llm)\n",
    "sc_ensemble": "        self.sc_ensemble = operator.ScEnsemble(self.llm)\n",
    "custom_code_generate": "        self.custom_code_generate = operator.CustomCodeGenerate(self.llm)\n",
    "test": "        self.test = operator.Test(self.llm)\n",
}
CALLS = {
    "math": "    async def __call__(self, problem):\n",
    "qa": "    async def __call__(self, problem):\n",
    "code": "    async def __call__(self, problem, entry_point):\n",
}
INSTRUCTIONS = {text: f'"{text}")\n' for text in (CAREFUL, OPEN, HASTY)}
CUSTOM = "        a = await self.custom(input=problem, instruction="
CUSTOM_UNAWAITED = "        a = self.custom(input=problem, instruction="
CUSTOM_MISNAMED = "        a = await self.custom(question=problem, instruction="
ANSWER = "        a = await self.answer_generate(input=problem)\n"
PROGRAM = '        a = await self.programmer(problem=problem, analysis="None")\n'
CODE = "        a = await self.custom_code_generate(problem=problem, entry_point=entry_point, instruction="
TEST = '        a = await self.test(problem=problem, solution=a["response"], entry_point=entry_point)\n'
LOOP = "        solutions = []\n        for _ in range(3):\n"
IN_LOOP = "            a = await self.custom(input=problem, instruction="
APPEND = '            solutions.append(a["response"])\n'
ENSEMBLE = "        a = await self.sc_ensemble(solutions=solutions, problem=problem)\n"
COST = ', self.llm.get_usage_summary()["total_cost"]'
RETURNS = {key: f'        return a["{key}"]' for key in ("response", "answer", "thought", "output", "code", "solution")}
CONSTANT = '        return "7"'
PIECES = (
    HEAD,
    *INITS.values(),
    *sorted(set(CALLS.values())),
    *INSTRUCTIONS.values(),
    *(CUSTOM, CUSTOM_UNAWAITED, CUSTOM_MISNAMED, ANSWER, PROGRAM, CODE, TEST, LOOP, IN_LOOP, APPEND, ENSEMBLE, COST),
    *RETURNS.values(),
    CONSTANT,
)
"""All fixed texts of programs."""


def _custom(instruction: str) -> Callable[[str], str]:
    return lambda domain: _program(domain, ("custom",), CUSTOM + INSTRUCTIONS[instruction], "response")


def _ensemble(instruction: str) -> Callable[[str], str]:
    body = LOOP + IN_LOOP + INSTRUCTIONS[instruction] + APPEND + ENSEMBLE
    return lambda domain: _program(domain, ("custom", "sc_ensemble"), body, "response")


def _code(instruction: str, *, tested: bool = False) -> Callable[[str], str]:
    body = CODE + INSTRUCTIONS[instruction] + (TEST if tested else "")
    inits = ("custom_code_generate", *(("test",) if tested else ()))
    return lambda domain: _program(domain, inits, body, "solution" if tested else "response")


def _program(domain: str, inits: tuple[str, ...], body: str, key: str, cost: str = COST) -> str:
    return HEAD + "".join(INITS[name] for name in inits) + CALLS[domain] + body + RETURNS[key] + cost


MISTAKES: tuple[Callable[[str], str], ...] = (
    lambda domain: _program(domain, ("custom",), CUSTOM_UNAWAITED + INSTRUCTIONS[CAREFUL], "response"),
    lambda domain: _program(domain, ("custom",), CUSTOM_MISNAMED + INSTRUCTIONS[OPEN], "response"),
    lambda domain: _program(domain, (), CUSTOM + INSTRUCTIONS[HASTY], "response"),
    lambda domain: _program(domain, ("custom",), CUSTOM + INSTRUCTIONS[OPEN], "answer"),
    lambda domain: _program(domain, ("custom",), CUSTOM + INSTRUCTIONS[OPEN], "response", cost=""),
    lambda domain: HEAD + CALLS[domain] + CONSTANT + COST,
)
"""Programs with a mistake: no await, a wrong keyword, no initialisation, a wrong key, no cost, a constant."""
ANSWERED: Callable[[str], str] = lambda domain: _program(domain, ("answer_generate",), ANSWER, "answer")  # noqa: E731
PROGRAMMED: Callable[[str], str] = lambda domain: _program(domain, ("programmer",), PROGRAM, "output")  # noqa: E731
THOUGHT: Callable[[str], str] = lambda domain: _program(domain, ("answer_generate",), ANSWER, "thought")  # noqa: E731
CODED: Callable[[str], str] = lambda domain: _program(domain, ("programmer",), PROGRAM, "code")  # noqa: E731
MISTAKEN = 0.16
"""Share of programs with a mistake."""
HABITS: dict[str, dict[Callable[[str], str], float]] = {
    "math": {
        _custom(HASTY): 0.34,
        _custom(OPEN): 0.12,
        _custom(CAREFUL): 0.07,
        _ensemble(HASTY): 0.1,
        _ensemble(CAREFUL): 0.03,
        PROGRAMMED: 0.06,
        CODED: 0.06,
        ANSWERED: 0.1,
    },
    "qa": {
        _custom(HASTY): 0.3,
        _custom(OPEN): 0.1,
        _custom(CAREFUL): 0.1,
        _ensemble(HASTY): 0.06,
        ANSWERED: 0.1,
        THOUGHT: 0.1,
        PROGRAMMED: 0.1,
    },
    "code": {
        _custom(HASTY): 0.3,
        _custom(OPEN): 0.1,
        _custom(CAREFUL): 0.08,
        _code(HASTY): 0.07,
        _code(CAREFUL): 0.06,
        _code(OPEN, tested=True): 0.05,
        CODED: 0.1,
        ANSWERED: 0.1,
    },
}
"""Relative frequency of each kind of program in each domain."""


def draw_program(domain: str, rng: Random) -> str:
    """Draw a good or bad workflow for a domain."""
    if rng.random() < MISTAKEN:
        return rng.choice(MISTAKES)(domain)
    kinds = HABITS[domain]
    return rng.choices(list(kinds), list(kinds.values()))[0](domain)
