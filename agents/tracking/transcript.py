"""An episode as text for a console and for trackers: what was read, what was written, and what came of it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from agents.trajectory import Trajectory
from reason_envs.core import AgentId, Message

MOST_READ = 600
"""Characters of a message that are shown: of a longer one the beginning and the end."""


def as_text(trajectory: Trajectory) -> str:
    """Return an episode as text.

    Where the environment renders the episode as text, what each agent read at its first decision comes before that.
    Elsewhere it is told as a dialogue: what each decision read that its agent had not read before, and what it wrote.
    """
    read: dict[AgentId, list[Message]] = {}
    lines = []
    for decision in trajectory.path:
        before, read[decision.agent] = read.get(decision.agent), decision.messages
        if before is None or not trajectory.rendered:
            news = "".join(_message(message) for message in _news(before or [], decision.messages))
            lines += [f"{decision.agent} reads\n{news}".rstrip()] if news else []
        if not trajectory.rendered:
            lines.append(f"{decision.agent} writes ({decision.reward:+.2f})\n{_indented(decision.choice.text)}")
    return "\n".join([*lines, *filter(None, [trajectory.rendered]), _outcome(trajectory)])


def _news(before: Sequence[Message], now: Sequence[Message]) -> list[Message]:
    """Leave out what stood at the same place before; a message that only grew is told from where it did."""
    news = []
    for i, message in enumerate(now):
        old = before[i] if i < len(before) else None
        if message == old:
            continue
        text = message["content"]
        if old and old["role"] == message["role"] and old["content"] and text.startswith(old["content"]):
            text = f"…{text[len(old['content']) :]}"
        news.append({**message, "content": text})
    return news


def _message(message: Message) -> str:
    text = message["content"]
    if len(text) > MOST_READ:
        half, left_out = MOST_READ // 2, len(text) - MOST_READ
        text = f"{text[:half]} [… {left_out:,} characters …] {text[-half:]}"
    return f"  {message['role']}:\n{_indented(text, 4)}\n"


def _indented(text: str, by: int = 2) -> str:
    return textwrap.indent(text or "(nothing)", " " * by, lambda line: True)


def _outcome(trajectory: Trajectory) -> str:
    correct = trajectory.metrics.get("correct")
    verdict = (
        "" if correct is None else "right, " if correct >= 1 else f"{correct:.0%} right, " if correct else "wrong, "
    )
    limit = ", cut off by a limit" if trajectory.truncated else ""
    return f"{verdict}return {trajectory.total_reward:+.2f}, {trajectory.generated_tokens:,} tokens{limit}"
