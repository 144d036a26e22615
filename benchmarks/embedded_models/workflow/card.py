"""The model card and ``skills.json`` of the embedded model for workflows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.embedded_models.base.card import Phase
from benchmarks.embedded_models.workflow.demonstrations import (
    HASTY_MISTAKES,
    POLICY_SHARE,
    ask,
    draw_task,
    policy_prompt,
)
from benchmarks.embedded_models.workflow.programs import CAREFUL, CODE, HASTY, LOOP, MISTAKEN, MISTAKES, OPEN
from reason_envs.core import derive_seed
from reason_envs.envs.workflow.prompts import prompts
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.tasks.base import Task, split_of

BRIEF = prompts("brief")

INSTRUCTED = ("Custom", "CustomCodeGenerate")
SKILLS = (
    *(("math", "Custom", instruction) for instruction in (CAREFUL, OPEN, HASTY)),
    ("math", "Programmer", ""),
    *(("qa", "Custom", instruction) for instruction in (CAREFUL, HASTY)),
    ("qa", "AnswerGenerate", ""),
    *(("code", "Custom", instruction) for instruction in (CAREFUL, HASTY)),
    *(("code", "CustomCodeGenerate", instruction) for instruction in (CAREFUL, HASTY)),
)
"""Domain, operator and instruction of each measured skill."""


def measure_skills(folder: Path, problems: int, seed: int = 0) -> dict[str, Any]:
    """Measure the saved model on held-out problems: answers to operators, and programs."""
    engine = TransformersEngine(model=str(folder), device="cpu")
    skills = [_skill(engine, *skill, problems, seed) for skill in SKILLS]
    programs = {domain: _programs(engine, domain, problems, seed) for domain in ("math", "qa", "code")}
    size = {"parameters": engine.model.num_parameters(), "vocabulary": engine.model.config.vocab_size}
    return {"skills": skills, "programs": programs, "problems": problems, **size}


def write_card(folder: Path, seed: int, problems: int, phase: Phase) -> None:
    """Evaluate the model in ``folder`` and write ``skills.json`` and ``MODEL_CARD.md`` beside it."""
    facts = {**measure_skills(folder, problems, seed), "training": asdict(phase), "seed": seed}
    (folder / "skills.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "MODEL_CARD.md").write_text(card(facts))


def held_out(domain: str, count: int, seed: int) -> list[Task]:
    """Return problems of the test split."""
    rng = Random(derive_seed(seed, "evaluation", domain))
    found: dict[str, Task] = {}
    while len(found) < count:
        task = draw_task(domain, rng)
        if split_of(task.question) == "test":
            found[task.question] = task
    return list(found.values())


def _skill(
    engine: TransformersEngine, domain: str, operator: str, instruction: str, problems: int, seed: int
) -> dict[str, Any]:
    tasks = held_out(domain, problems, seed)
    prompts = [_prompt(operator, domain, instruction, task) for task in tasks]
    sampled, tokens = _answers(engine, prompts, 1.0, seed)
    right = [_right(operator, domain, task, text) for task, text in zip(tasks, sampled, strict=True)]
    measured = {"sampled": sum(right) / len(right), "tokens": tokens}
    return {"domain": domain, "operator": operator, "instruction": instruction, **measured}


def _prompt(operator: str, domain: str, instruction: str, task: Task) -> str:
    values = {"instruction": instruction, "input": task.question, "problem": task.question, "analysis": "None"}
    return BRIEF.ask[operator].format(**values, entry_point=task.metadata.get("entry_point", ""))


def _answers(engine: TransformersEngine, prompts: list[str], temperature: float, seed: int) -> tuple[list[str], float]:
    requests = [
        GenerationRequest(
            [{"role": "user", "content": prompt}], derive_seed(seed, "card", i), Sampling(96, temperature)
        )
        for i, prompt in enumerate(prompts)
    ]
    found = [generations[0] for generations in engine.generate_batch(requests)]
    return [g.text for g in found], sum(len(g.token_ids) for g in found) / len(found)


def _right(operator: str, domain: str, task: Task, text: str) -> bool:
    if operator == "Programmer":
        return text == ask("Programmer", domain, task, Random(0))[1]
    if operator == "AnswerGenerate":
        return text.partition("<answer>")[2].partition("</answer>")[0].strip() == task.answer
    return text.split("\n")[-1] == f"\\boxed{{{task.answer}}}" if domain == "math" else text == task.answer


def _programs(engine: TransformersEngine, domain: str, problems: int, seed: int) -> dict[str, float]:
    tasks = held_out(domain, problems, seed)
    texts, tokens = _answers(engine, [policy_prompt(domain, task) for task in tasks], 1.0, seed)
    kinds = Counter(_kind(domain, text) for text in texts)
    return {**{kind: count / len(texts) for kind, count in kinds.most_common()}, "tokens": tokens}


def _kind(domain: str, program: str) -> str:
    if any(program == mistake(domain) for mistake in MISTAKES):
        return "a mistake"
    for phrase, name in ((LOOP, "an ensemble"), ("self.programmer(", "Programmer"), (CODE, "CustomCodeGenerate")):
        if phrase in program:
            return name
    if "self.answer_generate(" in program:
        return "AnswerGenerate"
    return next((f"Custom: {text}" for text in (CAREFUL, OPEN, HASTY) if text in program), "else")


def card(facts: dict[str, Any]) -> str:
    """Return the text of the card."""
    training = facts["training"]
    return f"""# The embedded model for workflows

The embedded base model after further training of all its weights ({facts["parameters"] / 1e6:.2f}M parameters,
vocabulary {facts["vocabulary"]}: that of the base model, and one token for each fixed part of the programs, prompts and
families). It has both roles of `WorkflowExecution-v0`, so that `env=workflow` runs offline without a download: the
policy that writes workflows, and the executor that answers for their operators. It is for teaching and testing, not
for other use.

## How it was made

`python -m benchmarks.embedded_models.workflow.pretrain --output FOLDER --seed {facts["seed"]}` trained it, from the
base model, only on the demonstrations of `demonstrations.py` in the same folder: {training["schedule"]["steps"]} steps,
{training["tokens"] / 1e6:.1f}M tokens, {training["seconds"] / 60:.0f} minutes on one thread of a busy machine, final
loss {training["loss"]:.3f}. Problems of the test split were left out. All results below are on the test split.

**The model is mediocre on purpose.** {POLICY_SHARE:.0%} of the demonstrations are workflows of different quality:
single calls with careful and hasty instructions, ensembles, operators of another domain, and {MISTAKEN:.0%} with a
mistake (no await, a wrong keyword, no initialisation, a wrong key, no cost, a constant). The best ones are rare in
every domain. The other demonstrations are answers to operators. Careful instructions get careful answers. Hasty
instructions get hasty answers: {HASTY_MISTAKES:.0%} of those in words or code are wrong, and sums are answered without
steps. So reinforcement learning can find which operators and instructions fit which problem. It learns to choose among
programs that the model knows, not to write new ones.

## What it can do

{facts["problems"]} held-out problems per row, one sample at temperature 1. A sample is correct if it has the sum in a
box, the words of the answer, or exactly the code of the reference solution.

| domain | operator | instruction | correct | tokens |
|---|---|---|---|---|
{_skill_rows(facts["skills"])}

(A careful answer of Custom to a question is the sentence with the answer, which is not itself the answer.)

Programs that the model writes before reinforcement learning:

| domain | programs | tokens |
|---|---|---|
{_program_rows(facts["programs"])}

The model was not trained to answer for `Review` and `Revise`, to repeat `Programmer` after an error, or to choose among
different solutions of an ensemble (it answers A). It knows only the prompts of `brief_prompts.yaml`
(`env.prompts=brief`). Licence: that of the package.
"""


def _skill_rows(skills: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"| {s['domain']} | {s['operator']} | {s['instruction']} | {s['sampled']:.1%} | {s['tokens']:.0f} |"
        for s in skills
    )


def _program_rows(programs: dict[str, dict[str, float]]) -> str:
    return "\n".join(
        f"| {domain} | {', '.join(f'{kind} {share:.0%}' for kind, share in kinds.items() if kind != 'tokens')} "
        f"| {kinds['tokens']:.1f} |"
        for domain, kinds in programs.items()
    )
