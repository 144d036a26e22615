"""Prompts of policy and executor: full ones for language models, brief ones for the embedded model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reason_envs.envs.workflow import brief_prompts as brief

DOMAINS = ("math", "qa", "code")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Prompts:
    """A set of prompts."""

    policy: str
    """Prompt of the policy with the places ``{operators}``, ``{domain}`` and ``{problem}``."""
    domains: Mapping[str, str]
    """Rule of each domain."""
    operators: Mapping[str, str]
    """Description of each operator."""
    ask: Mapping[str, str]
    """Prompt of the executor for each operator, with places for its fields."""

    def workflow(self, domain: str, problem: str) -> str:
        """Return the policy's prompt for a problem."""
        return fill(
            self.policy, operators="\n".join(self.operators.values()), domain=self.domains[domain], problem=problem
        )

    def describing(self, descriptions: Mapping[str, str]) -> Prompts:
        """Return these prompts with other descriptions of operators."""
        return replace(self, operators={**self.operators, **descriptions})


def fill(template: str, **values: str) -> str:
    """Put values into a template, all at once: braces within a value mean nothing."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template)


POLICY = """Write a workflow: a Python program that answers the problem below by calling operators, each of which asks \
a language model. Put the whole program into one block between ```python and ```, in this format:

```python
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        solution = await self.custom(input=problem, instruction="Solve the problem step by step.")
        return solution["response"], self.llm.get_usage_summary()["total_cost"]
```

The operators, each called with keywords and awaited, and each built in `__init__`:
{operators}

Rules: `__call__` returns the answer and the cost. Several calls can wait together in `await asyncio.gather(...)`. \
`asyncio`, `collections`, `json`, `math`, `re` and `typing` can be imported; there are no files and no network. The \
answer must come from the operators; one that stands in the program earns nothing. {domain}

Problem:
{problem}"""

FULL = Prompts(
    POLICY,
    {
        "math": "This problem is mathematics: return the final number or expression, best in \\boxed{}. Custom, "
        "ScEnsemble, Programmer, Review and Revise fit it; Test, CustomCodeGenerate and AnswerGenerate do not.",
        "qa": "This problem is a question: return the shortest words that answer it, without a sentence around them. "
        "Custom, AnswerGenerate, ScEnsemble, Review and Revise fit it; Programmer, Test and CustomCodeGenerate do not.",
        "code": "This problem is programming: `__call__` takes (self, problem, entry_point) and returns the whole code "
        "of that function. Custom, CustomCodeGenerate, ScEnsemble, Test, Review and Revise fit it; Programmer and "
        "AnswerGenerate do not.",
    },
    {
        "Custom": "custom(input: str, instruction: str) -> {'response': str}: asks anything; the instruction comes "
        "before the input.",
        "AnswerGenerate": "answer_generate(input: str) -> {'thought': str, 'answer': str}: thinks step by step, then "
        "answers shortly.",
        "Programmer": "programmer(problem: str, analysis: str) -> {'code': str, 'output': str}: writes a program, runs "
        "it and returns what it computes; up to three attempts.",
        "ScEnsemble": "sc_ensemble(solutions: list[str], problem: str) -> {'response': str}: returns the most "
        "consistent of several solutions.",
        "CustomCodeGenerate": "custom_code_generate(problem: str, entry_point: str, instruction: str) -> "
        "{'response': str}: writes the code of the function entry_point.",
        "Test": "test(problem: str, solution: str, entry_point: str) -> {'result': bool, 'solution': str}: runs the "
        "public tests and repairs a solution that fails, up to three times.",
        "Review": "review(problem: str, solution: str) -> {'review_result': bool, 'feedback': str}: judges a solution.",
        "Revise": "revise(problem: str, solution: str, feedback: str) -> {'solution': str}: rewrites a solution.",
    },
    {
        "Custom": "{instruction}\n\n{input}",
        "AnswerGenerate": "Think step by step, then answer the question. Write your thoughts between <thought> and "
        "</thought>, and the answer, as short as possible, between <answer> and </answer>.\n\n{input}",
        "Programmer": "Solve the problem by a Python program that uses the standard library only. Define a function "
        "solve() without arguments that computes and returns the final answer. Reply with one code block.\n\nProblem: "
        "{problem}\n\nAnalysis: {analysis}",
        "ProgrammerAgain": "Solve the problem by a Python program that uses the standard library only. Define a "
        "function solve() without arguments that computes and returns the final answer. Reply with one code block."
        "\n\nProblem: {problem}\n\nAnalysis: {analysis}\n\nThis attempt failed:\n{code}\n\nError: {error}",
        "ScEnsemble": "Several solutions to one problem follow. Find the answer that most of them agree on and say "
        "which solution gives it best: write its letter, and nothing else, between <solution_letter> and "
        "</solution_letter>.\n\nProblem: {problem}\n\n{solutions}",
        "CustomCodeGenerate": "{instruction}\n\nWrite the function {entry_point}, complete with its head and its "
        "imports. Reply with one code block.\n\n{problem}",
        "Test": "This solution of a programming problem fails a test. Find the mistake and reply with the whole "
        "corrected code of {entry_point} in one code block.\n\n{problem}\n\n{solution}\n\nFailure: {error}",
        "Review": "Judge whether the solution is right. Write true or false between <review_result> and "
        "</review_result>; where it is wrong, say why between <feedback> and </feedback>.\n\nProblem: {problem}\n\n"
        "Solution: {solution}",
        "Revise": "Rewrite the solution so that it is right, following the feedback. Reply with the solution only."
        "\n\nProblem: {problem}\n\nSolution: {solution}\n\nFeedback: {feedback}",
    },
)
BRIEF = Prompts(brief.POLICY, brief.DOMAINS, brief.OPERATORS, brief.ASK)
STYLES = {"full": FULL, "brief": BRIEF}
"""Sets of prompts by name."""
