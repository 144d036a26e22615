"""Files in the shapes that AFlow publishes: both editions, with their imports, prompts, loops and costs."""

from __future__ import annotations

import pytest
from scripted_engine import ScriptedEngine
from workflow_toys import CODE, MATH, make_env, play

from reason_envs.envs.workflow.repair import prepare

OLD_HEAD = """from typing import Literal
import metagpt.ext.aflow.scripts.optimized.{set}.workflows.template.operator as operator
import metagpt.ext.aflow.scripts.optimized.{set}.workflows.round_3.prompt as prompt_custom
from metagpt.provider.llm_provider_registry import create_llm_instance
from metagpt.utils.cost_manager import CostManager

DatasetType = Literal["HumanEval", "MBPP", "GSM8K", "MATH"]
"""
NEW_HEAD = """from typing import Literal
import workspace.{set}.workflows.template.operator as operator
import workspace.{set}.workflows.round_3.prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType
from scripts.logs import logger
"""
RELATIVE_HEAD = """from ..template import operator
from . import prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType
"""
OLD_COST, NEW_COST = "self.llm.cost_manager.total_cost", 'self.llm.get_usage_summary()["total_cost"]'
PROMPTS = 'SOLVE = """\nThink.\n"""\nCHECK = "Check it."\nMANY = ["Think.", "Think hard."]\n'


def file(head, body, *, old=False, parameters="problem: str", operators=("Custom",), set="MATH"):
    names = {"Custom": "custom", "ScEnsemble": "sc_ensemble", "CustomCodeGenerate": "code", "Test": "test"}
    lines = [
        head.replace("{set}", set),
        "class Workflow:",
        "    def __init__(",
        "        self,",
        "        name: str,",
        "        llm_config,",
        "        dataset: DatasetType,",
        "    ) -> None:",
        "        self.name = name",
        "        self.dataset = dataset",
        "        self.llm = create_llm_instance(llm_config)",
        *(["        self.llm.cost_manager = CostManager()"] if old else []),
        *(f"        self.{names[kind]} = operator.{kind}(self.llm)" for kind in operators),
        f"    async def __call__(self, {parameters}):",
        '        """',
        "        Implementation of the workflow",
        '        """',
        *(f"        {line}" for line in body.split("\n")),
    ]
    return "\n".join(lines)


ONE = (
    "solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE)\n"
    f'return solution["response"], {NEW_COST}'
)
REVISED = (
    "first = await self.custom(input=problem, instruction=prompt_custom.SOLVE)\n"
    "second = await self.custom(input=problem + f\"\\nFirst: {first['response']}\", instruction=prompt_custom.CHECK)\n"
    "final = await self.sc_ensemble(solutions=[first['response'], second['response']], problem=problem)\n"
    f"return final['response'], {OLD_COST}"
)
VOTE = (
    "solutions = []\n"
    "for _ in range(3):\n"
    "    solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE)\n"
    "    solutions.append(solution['response'])\n"
    "final = await self.sc_ensemble(solutions=solutions, problem=problem)\n"
    f"return final['response'], {OLD_COST}"
)
TESTED = (
    'solution = await self.code(problem=problem, entry_point=entry_point, instruction="")\n'
    'code = solution["response"]\n'
    "tested = await self.test(problem=problem, solution=code, entry_point=entry_point, question_id=question_id)\n"
    'final = tested.get("solution", code)\n'
    'logger.info("---- test result ----")\nlogger.info(final)\n'
    f"return final, {NEW_COST}"
)
GATHERED = (
    "import asyncio\n"
    "tasks = [self.custom(input=problem, instruction=text) for text in prompt_custom.MANY]\n"
    'texts = [answer["response"] for answer in await asyncio.gather(*tasks)]\n'
    "final = await self.sc_ensemble(solutions=texts, problem=problem)\n"
    f'return final["response"], {NEW_COST}'
)
BOTH = ("Custom", "ScEnsemble")
GRAPHS = {
    "newer": file(NEW_HEAD, ONE),
    "relative": file(RELATIVE_HEAD, ONE),
    "older, revised": file(OLD_HEAD, REVISED, old=True, operators=BOTH),
    "older, vote": file(OLD_HEAD, VOTE, old=True, operators=BOTH, set="GSM8K"),
    "gathered": file(NEW_HEAD, GATHERED, operators=BOTH),
    "without imports": file("", ONE),
}


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_published_graph_with_its_prompts_earns_its_answer(name, fenced):
    graph, prompts = (f"```python\n{text}\n```" if fenced else text for text in (GRAPHS[name], PROMPTS))
    response = f"<modification>one</modification>\n<graph>\n{graph}\n</graph>\n<prompt>\n{prompts}</prompt>"
    seen = []

    def script(request, seed):
        seen.append(request.prompt[0]["content"])
        return r"\boxed{27}"

    end = play(make_env(ScriptedEngine(script)), MATH, response)
    assert (end.info["verdict"], end.info["error"], end.info["repairs"]) == ("ok", "", [])
    assert end.rewards == {"writer": 1.0}
    assert "Think." in seen[0]


def test_graph_for_code_takes_entry_point_and_question_id():
    parameters = "problem: str, entry_point: str, question_id: str"
    response = file(
        NEW_HEAD, TESTED, parameters=parameters, operators=("CustomCodeGenerate", "Test"), set="LiveCodeBench"
    )
    end = play(make_env("```python\ndef f(a):\n    return 2 * a\n```"), CODE, f"```python\n{response}\n```")
    assert (end.info["verdict"], end.info["error"]) == ("ok", "")
    assert end.rewards == {"writer": 1.0}


def test_older_edition_reads_the_same_cost_as_the_newer_one():
    old = prepare(f"```python\n{GRAPHS['older, vote']}\n```").source
    assert NEW_COST.replace('"', "'") in old
    assert "cost_manager" not in old
    assert "DatasetType =" not in old


@pytest.mark.parametrize(
    ("prompts", "verdict", "error"),
    [("", "type_error", "prompt_custom"), ("OTHER = 'x'", "type_error", "SOLVE"), ("SOLVE = ", "syntax_error", "")],
)
def test_prompt_that_is_missing_is_named(prompts, verdict, error):
    end = play(make_env(), MATH, f"<graph>{GRAPHS['newer']}</graph><prompt>{prompts}</prompt>")
    assert end.info["verdict"] == verdict
    assert error in end.info["error"]
