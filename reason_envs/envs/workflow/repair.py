"""Extraction and repair of programs. Repairs cannot change the meaning of a program.

Each repair has a name and caps the reward:

* ``indentation``: tabs, a program that is indented as a whole, a line between two levels;
* ``import NAME``: a module of the standard library is used without an import;
* ``initialisation of NAME``: an operator is called by its usual name and never built.

Files of both editions of AFlow run without a cap. Its own imports and ``DatasetType`` are removed, because every
program has these names. ``cost_manager.total_cost`` of the older edition is read as
``get_usage_summary()["total_cost"]``. The texts in a ``<prompt>`` after the ``<graph>`` are those of ``prompt_custom``.
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from reason_envs.envs.workflow.operator_signatures import ATTRIBUTES
from reason_envs.rewards.code.grade import extract_code

MODULES = ("asyncio", "collections", "itertools", "json", "math", "random", "re", "string", "typing")
"""Modules whose import is added if it is missing."""
_TYPING = ("Any", "Dict", "List", "Literal", "Optional", "Tuple", "Union")
_OURS = re.compile(r"(^|\.)(operator|async_llm|evaluator|prompt)$|^(metagpt|scripts|workspace)(\.|$)")
_GRAPH = re.compile(r"<graph>(.*?)</graph>(?:.*?<prompt>(.*?)</prompt>)?", re.DOTALL)
_TOTAL_COST = '.get_usage_summary()["total_cost"]'
WORKFLOW = "Workflow"


@dataclass(frozen=True)
class Prepared:
    """A program, or the reason that there is none."""

    source: str = ""
    """Source that is checked and run."""
    repairs: tuple[str, ...] = ()
    """Names of the repairs."""
    parameters: int = 1
    """Number of arguments of ``__call__``: the problem, the entry point, and the id of the problem."""
    verdict: str = ""
    """Verdict: empty if the program can be checked, else ``no_program``, ``syntax_error`` or ``no_workflow``."""
    error: str = ""
    """Description of what is wrong and how to fix it."""


def prepare(response: str) -> Prepared:
    """Extract the program of a response and repair it; never raises an error."""
    graph = _GRAPH.search(response)
    code = extract_code(graph[1] if graph else response).strip("\n")
    if not code.strip():
        return Prepared(verdict="no_program", error="The response has no program: write one in a ```python block.")
    try:
        return _prepare(code, extract_code(graph[2]) if graph and graph[2] else "")
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        return Prepared(verdict="syntax_error", error=f"{where}{what}")
    except (RecursionError, MemoryError):
        return Prepared(verdict="syntax_error", error="The program is nested too deeply.")


def _prepare(code: str, prompts: str) -> Prepared:
    repairs: list[str] = []
    try:
        tree = ast.parse(code)
    except IndentationError:
        code = reindent(code)
        tree = ast.parse(code)
        repairs.append("indentation")
    if _adapt(tree, prompts):
        code = ""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == WORKFLOW]
    functions = [node for one in classes for node in one.body if isinstance(node, ast.AsyncFunctionDef)]
    calls = [node for node in functions if node.name == "__call__" and len(node.args.args) >= 2]
    if len(classes) != 1 or len(calls) != 1:
        message = "The program needs one `class Workflow` with one `async def __call__(self, problem)`."
        return Prepared(code, tuple(repairs), verdict="no_workflow", error=message)
    repairs += [*_add_imports(tree), *_add_operators(classes[0])]
    if not code or len(repairs) > ("indentation" in repairs):
        code = ast.unparse(ast.fix_missing_locations(tree))
    return Prepared(code, tuple(repairs), len(calls[0].args.args) - 1)


def reindent(code: str) -> str:
    """Replace tabs by spaces, remove common indentation, and move lines between two levels to the nearer level."""
    lines: list[str] = []
    levels = [0]
    for line in textwrap.dedent(code.expandtabs(4)).split("\n"):
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if text:
            inner = levels[-1]
            while indent < levels[-1]:
                inner = levels.pop()
            if levels[-1] < indent < inner and inner - indent <= indent - levels[-1]:
                levels.append(inner)
            opened = bool(lines) and lines[-1].rstrip().endswith((":", "(", "[", "{", ","))
            if indent > levels[-1] and opened:
                levels.append(indent)
            indent = levels[-1]
        lines.append(" " * indent + text)
    return "\n".join(lines)


def _adapt(tree: ast.Module, prompts: str) -> bool:
    """Remove what every program has, read the older edition as the newer one, and define ``prompt_custom``.

    Returns:
        Whether the program changed.
    """
    before = ast.dump(tree)
    _Adapter().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.body:
            node.body.append(ast.Pass())
    named = [node for node in ast.parse(prompts).body if isinstance(node, ast.Assign)]
    if named:
        tree.body.insert(0, ast.ClassDef("prompt_custom", [], [], cast("list[ast.stmt]", named), []))
    return ast.dump(tree) != before


class _Adapter(ast.NodeTransformer):
    """Adapts files of AFlow to the names that every program has."""

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        return None if all(_OURS.search(alias.name) for alias in node.names) else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.level or _OURS.search(node.module or "") else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        match node.targets:
            case [ast.Name(id="DatasetType") | ast.Attribute(attr="cost_manager")]:
                return None
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        match node:
            case ast.Attribute(value=ast.Attribute(value=llm, attr="cost_manager"), attr="total_cost"):
                return ast.parse(ast.unparse(llm) + _TOTAL_COST, mode="eval").body
        return self.generic_visit(node)


def _add_imports(tree: ast.Module) -> Iterator[str]:
    """Import the modules that are used without being defined."""
    loaded = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {argument.arg for argument in ast.walk(tree) if isinstance(argument, ast.arg)}
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    for name in sorted(loaded - bound):
        if name in (*MODULES, *_TYPING):
            tree.body[:0] = ast.parse(f"import {name}" if name in MODULES else f"from typing import {name}").body
            yield f"import {name}"


def _add_operators(workflow: ast.ClassDef) -> Iterator[str]:
    """Build the operators and the model that are used by their usual names and never built."""
    stored: set[str] = set()
    loaded: set[str] = set()
    for node in ast.walk(workflow):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            (stored if isinstance(node.ctx, ast.Store) else loaded).add(node.attr)
    methods = {node.name for node in workflow.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    missing = sorted((loaded - stored - methods) & {*ATTRIBUTES, "llm"})
    operators = [name for name in missing if name != "llm"]
    lines = [f"self.{name} = operator.{ATTRIBUTES[name]}(self.llm)" for name in operators]
    if "llm" in missing or (lines and "llm" not in stored):
        lines.insert(0, "self.llm = create_llm_instance(llm_config)")
    if not lines:
        return
    start = next((n for n in workflow.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if start is None:
        head = "def __init__(self, name, llm_config, dataset):\n    pass"
        start = ast.parse(head).body[0]  # type: ignore[assignment]
        assert isinstance(start, ast.FunctionDef)
        workflow.body.insert(0, start)
    lines[0] = lines[0].replace("llm_config", start.args.args[2].arg if len(start.args.args) > 2 else "None")
    place = 1 if start.body and isinstance(start.body[0], ast.Expr) and ast.get_docstring(start) else 0
    start.body[place:place] = [ast.parse(line).body[0] for line in lines]
    yield from (f"initialisation of {name}" for name in missing)
