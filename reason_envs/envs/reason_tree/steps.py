"""Where the steps of a solution end."""

import re
from dataclasses import dataclass, replace

from reason_envs.core import derive_seed
from reason_envs.llm.chat import THOUGHT
from reason_envs.llm.embedded import is_embedded
from reason_envs.llm.engine import Engine, Generation, GenerationRequest
from reason_envs.tasks.text import without_thoughts

PARAGRAPHS = "paragraphs"
"""Separator that stands for a rule: steps are paragraphs that keep display mathematics and blocks of code whole."""
THOUGHT_END = "</think>"
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_BLOCKS = ((r"\[", r"\]"), (r"\begin{", r"\end{"))


@dataclass(frozen=True)
class StepRule:
    """Rule that divides a solution into steps. A ``<think>`` block is never divided and is not a part of a step."""

    separator: str
    """Text that ends a step."""
    keeps_blocks: bool = False
    """Whether blank steps are skipped, and display mathematics and blocks of code are kept whole."""

    @classmethod
    def of(cls, separator: str | None, model: str) -> "StepRule":
        """Return the rule of an option. ``None``: `PARAGRAPHS` for a model that does not ship, and otherwise lines."""
        is_default = separator is None and model != "" and not is_embedded(model)
        return cls("\n\n", True) if is_default or separator == PARAGRAPHS else cls(separator or "\n")

    def is_whole(self, text: str) -> bool:
        """Return whether a separator after a text ends a step."""
        if _is_thought(text) or not (self.keeps_blocks or THOUGHT_END in text):
            return not _is_thought(text)
        text = without_thoughts(text)
        is_closed = all(text.count(start) <= text.count(end) for start, end in _BLOCKS)
        has_pairs = len(_FENCE.findall(text)) % 2 == 0 and text.count("$$") % 2 == 0
        return text.strip() != "" and (not self.keeps_blocks or (is_closed and has_pairs))

    def split(self, solution: str) -> tuple[str, ...]:
        """Return the steps of a solution, without empty steps."""
        steps = [""]
        for piece in without_thoughts(solution).split(self.separator):
            steps[-1] += piece
            if self.is_whole(steps[-1]):
                steps.append("")
            else:
                steps[-1] += self.separator
        return tuple(filter(None, map(str.strip, steps)))


async def draw_step(engine: Engine, request: GenerationRequest, rule: StepRule, unfinished: str = "") -> Generation:
    """Generate until the step, which may start with ``unfinished``, is whole, ends the text or has ``max_tokens``."""
    (step,) = await engine.generate(request)
    while step.stop_string is not None and step.token_ids and not rule.is_whole(unfinished + step.text):
        text, room = step.text + step.stop_string, request.sampling.max_tokens - len(step.token_ids)
        if room <= 0:
            return replace(step, finish_reason="length", stop_string=None)
        stop = (THOUGHT_END,) if _is_thought(unfinished + text) else request.sampling.stop
        sampling, prompt = replace(request.sampling, max_tokens=room, stop=stop), [*step.prompt_ids, *step.token_ids]
        seed = derive_seed(request.seed, "piece", len(step.token_ids))
        further = replace(request, prompt=prompt, seed=seed, sampling=sampling, prefix_cache=step.prefix_cache)
        (piece,) = await engine.generate(further)
        logs = None if step.log_probs is None or piece.log_probs is None else [*step.log_probs, *piece.log_probs]
        tokens = [*step.token_ids, *piece.token_ids]
        start = {"prompt_ids": step.prompt_ids, "prompt_prefix_cache": step.prompt_prefix_cache}
        step = replace(piece, text=text + piece.text, token_ids=tokens, log_probs=logs, **start)
    return step


def _is_thought(text: str) -> bool:
    return text.count(THOUGHT) > text.count(THOUGHT_END)
