"""Brief prompts of WorkflowExecution-v0. The embedded model ``workflow`` was trained on them.

``POLICY`` asks the policy for a workflow, ``ASK`` the executor for the result of an operator. A change of these texts
requires a new training of the model (``python -m benchmarks.embedded_models.workflow.pretrain``).
"""

OPERATORS = {
    "Custom": "Custom(input, instruction) -> response",
    "AnswerGenerate": "AnswerGenerate(input) -> thought, answer",
    "Programmer": "Programmer(problem, analysis) -> code, output",
    "ScEnsemble": "ScEnsemble(solutions, problem) -> response",
    "CustomCodeGenerate": "CustomCodeGenerate(problem, entry_point, instruction) -> response",
    "Test": "Test(problem, solution, entry_point) -> result, solution",
    "Review": "Review(problem, solution) -> review_result, feedback",
    "Revise": "Revise(problem, solution, feedback) -> solution",
}
"""Description of each operator."""
DOMAINS = {
    "math": "This is mathematics: return the number.",
    "qa": "This is a question: return the words that answer it.",
    "code": "This is programming: return the function.",
}
"""Rule of each domain."""
POLICY = "Write a workflow of these operators:\n{operators}\n{domain}\n{problem}"
"""Prompt of the policy."""
ASK = {
    "Custom": "{instruction}\n{input}",
    "AnswerGenerate": "Think, then answer in tags.\n{input}",
    "Programmer": "Write solve() that returns the answer. {analysis}\n{problem}",
    "ProgrammerAgain": "Write solve() that returns the answer. {analysis}\n{problem}\n{code}\nIt fails: {error}",
    "ScEnsemble": "Which solution is right? Answer with its letter.\n{problem}\n{solutions}",
    "CustomCodeGenerate": "Write the code of {entry_point}. {instruction}\n{problem}",
    "Test": "Mend the code of {entry_point}.\n{problem}\n{solution}\nIt fails: {error}",
    "Review": "Is the solution right? Answer in tags.\n{problem}\n{solution}",
    "Revise": "Revise the solution.\n{problem}\n{solution}\n{feedback}",
}
"""Prompt of the executor for each operator."""
