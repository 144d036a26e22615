"""Extraction of the code from a response: lines are read and fences are paired."""

import re
from typing import Any

from reason_envs.tasks.text import is_python, without_thoughts

_FENCE = re.compile(r"(?P<lead>.*?)(?<![`~])(?P<fence>`{3,}+|~{3,}+)(?P<info>[^`~]*)")
_MARGIN = re.compile(r"[\s>]*(?:(?:[-*+]|\d+[.)])\s+)?")
_PYTHON = re.compile(r"[\s{.]*i?py(?:thon)?(?![a-z])", re.IGNORECASE)


def extract_code(response: str) -> str:
    """Return the code of a response: the last block in Python, or else the last block without a language, or any block.

    Fences are three or more backticks or tildes, or ``[PYTHON]``. They may be indented, quoted or follow text. A block
    that is never closed ends with the text, and nested blocks are paired. Without a block, the response is the code.
    """
    response = without_thoughts(response).replace("\r\n", "\n")
    lines = response.replace("[PYTHON]\n", "```python\n").replace("\n[/PYTHON]", "\n```").split("\n")
    blocks: list[dict[str, Any]] = []
    opened: list[dict[str, Any]] = []
    for line in lines:
        match, outer = _FENCE.fullmatch(line), list(opened)
        info = match["info"].strip() if match else ""
        is_bare = match is not None and _MARGIN.fullmatch(match["lead"]) is not None
        if match and opened and not info and match["fence"].startswith(opened[-1]["fence"]):
            if not is_bare:
                opened[-1]["lines"].append(match["lead"])
            opened.pop()["closed"], outer = True, opened
        elif match and (is_bare or _PYTHON.fullmatch(info)) and (not opened or (is_bare and info and len(opened) < 5)):
            block = {"fence": match["fence"], "rank": 2 if _PYTHON.match(info) else 0 if info else 1, "around": outer}
            opened.append({**block, "margin": len(match["lead"]) if is_bare else 0, "lines": [], "closed": False})
            blocks.append(opened[-1])
        for block in outer:
            block["lines"].append(re.sub(rf"^[\s>]{{0,{block['margin']}}}", "", line))
    in_code = [[a["rank"] == 2 and (a["closed"] or b["margin"] > a["margin"]) for a in b["around"]] for b in blocks]
    blocks = [block for block, flags in zip(blocks, in_code, strict=True) if not any(flags)]  # others are in docstrings
    if not blocks:
        return response
    code = max(reversed(blocks), key=lambda block: block["rank"])
    if len(blocks) == 1 and code["rank"] == 1 and not code["closed"]:
        before, after = lines[: len(lines) - len(code["lines"]) - 1], "\n".join(code["lines"])
        if not after.strip() or (is_python("\n".join(before)) and not is_python(after)):
            code["lines"] = before  # a closing fence: the opening one is in the prompt
    return "".join(f"{line}\n" for line in code["lines"])
