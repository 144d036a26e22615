"""Training data of the embedded model ``workflow``: workflows of different quality, and answers to operators.

The data of the policy are programs in the format of AFlow. Some fit their problem, some have hasty instructions, and
some have small mistakes. The data of the executor are prompts of operators, with careful answers to careful
instructions and hasty answers to hasty instructions.
"""

from __future__ import annotations

from random import Random

from benchmarks.embedded_models.base import demonstrations as demo
from benchmarks.embedded_models.base.demonstrations import QUESTION, Demonstration
from benchmarks.embedded_models.workflow.programs import CAREFUL, HASTY, OPEN, draw_program
from reason_envs.envs.workflow.prompts import prompts
from reason_envs.tasks.base import Task
from reason_envs.tasks.generated import fact_qa, one_line_code

BRIEF = prompts("brief")

RATIOS = {"math": 0.4, "qa": 0.35, "code": 0.25}
"""Share of each domain."""
POLICY_SHARE = 0.2
"""Share of demonstrations that write workflows."""
EASY_STEPS = 600
"""Number of training steps over which passages of normal length replace short ones."""
SLIPS = {CAREFUL: 0.0, OPEN: 0.5, HASTY: 1.0}
"""Probability of a hasty answer to each instruction."""
HASTY_MISTAKES = 0.6
"""Share of hasty answers in words or code that are wrong."""
OPERATOR_SHARES = {
    "math": {"Custom": 0.6, "Programmer": 0.3, "AnswerGenerate": 0.05, "ScEnsemble": 0.05},
    "qa": {"Custom": 0.3, "AnswerGenerate": 0.6, "Programmer": 0.05, "ScEnsemble": 0.05},
    "code": {"Custom": 0.25, "CustomCodeGenerate": 0.6, "AnswerGenerate": 0.05, "Programmer": 0.05, "Test": 0.05},
}
"""Share of each operator in each domain."""


class WorkflowsAndOperators:
    """Draws demonstrations of both roles."""

    def draw(self, rng: Random, step: int) -> Demonstration:
        """Return a demonstration for the batches near a training step."""
        domain = rng.choices(list(RATIOS), list(RATIOS.values()))[0]
        task = draw_task(domain, rng, easy=rng.random() > step / EASY_STEPS)
        if rng.random() < POLICY_SHARE:
            return Demonstration("policy", policy_prompt(domain, task), draw_program(domain, rng), task.question)
        shares = OPERATOR_SHARES[domain]
        operator = rng.choices(list(shares), list(shares.values()))[0]
        prompt, answer = ask(operator, domain, task, rng)
        return Demonstration(operator, prompt, answer, task.question)


def draw_task(domain: str, rng: Random, *, easy: bool = False) -> Task:
    """Draw a problem of a domain and of any split. An easy question has a passage of one or two facts."""
    if domain == "math":
        expression = demo.chain_sum_expression(rng)
        answer = str(demo.running_sums(expression)[1])
        return Task("", QUESTION.format(expression=expression), answer, {"expression": expression})
    if domain == "code":
        return Task("", *one_line_code.draw(rng))
    return Task("", *fact_qa.draw(rng, *((1, 2) if easy else (3, 4))))


def policy_prompt(domain: str, task: Task) -> str:
    """Return the prompt of the policy."""
    return BRIEF.policy.format(
        operators="\n".join(BRIEF.operators.values()), domain=BRIEF.domains[domain], problem=task.question
    )


def ask(operator: str, domain: str, task: Task, rng: Random) -> tuple[str, str]:
    """Return the prompt of an operator for a task, and the answer of the executor."""
    instruction = rng.choice((CAREFUL, OPEN, HASTY))
    hasty = rng.random() < SLIPS[instruction]
    problem = task.question
    if operator == "Custom":
        return BRIEF.ask["Custom"].format(instruction=instruction, input=problem), custom(domain, task, hasty, rng)
    if operator == "AnswerGenerate":
        thought = task.metadata["fact"] if domain == "qa" else "I guess."
        answer = task.answer if domain == "qa" else "7" if domain == "code" else _guess(task)
        text = f"<thought> {thought}</thought><answer> {answer}</answer>"
        return BRIEF.ask[operator].format(input=problem), text
    if operator == "Programmer":
        code = f"def solve():\n    return {task.metadata['expression']}" if domain == "math" else _solve_wrongly(task)
        return BRIEF.ask[operator].format(problem=problem, analysis="None"), code
    if operator == "CustomCodeGenerate":
        name = task.metadata["entry_point"]
        prompt = BRIEF.ask[operator].format(entry_point=name, instruction=instruction, problem=problem)
        return prompt, _code(task, hasty and rng.random() < HASTY_MISTAKES, rng)
    if operator == "Test":
        error = f"{task.metadata['public_tests'][0]}: AssertionError"
        fields = {"problem": problem, "solution": _code(task, True, rng), "entry_point": task.metadata["entry_point"]}
        return BRIEF.ask[operator].format(**fields, error=error), task.answer
    solutions = [custom(domain, task, True, rng) for _ in range(3)]
    listed = "\n".join(f"{letter}: {solution}" for letter, solution in zip("ABC", solutions, strict=True))
    return BRIEF.ask["ScEnsemble"].format(problem=problem, solutions=listed), "A"


def custom(domain: str, task: Task, hasty: bool, rng: Random) -> str:
    """Return an answer to the operator Custom: careful with steps, or hasty."""
    if domain == "math":
        return demo.hasty(task.metadata["expression"]) if hasty else demo.careful(task.metadata["expression"])
    if domain == "code":
        return _code(task, rng.random() < (HASTY_MISTAKES if hasty else HASTY_MISTAKES / 2), rng)
    if not hasty:
        return task.metadata["fact"]
    words = [word.strip(".") for word in task.metadata["context"].split() if word[0].isupper() or word.endswith(".")]
    return rng.choice(words) if rng.random() < HASTY_MISTAKES else task.answer


def _code(task: Task, wrong: bool, rng: Random) -> str:
    """Return the reference solution, or a similar wrong function."""
    if not wrong:
        return task.answer
    body, operator, term = task.answer.rsplit(" ", 2)
    if rng.random() < 0.5:
        return f"{body} {'-' if operator == '+' else '+'} {term}"
    return body


def _guess(task: Task) -> str:
    """Return the first number of a sum, which is rarely its value."""
    return task.metadata["expression"].split(" ")[0]


def _solve_wrongly(task: Task) -> str:
    """Return a wrong program for a problem that is not a computation."""
    return "def solve():\n    return 7"
