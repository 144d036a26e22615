"""Transcript of an episode for the console and the dashboards: prompts, responses and the result."""

import textwrap
from collections.abc import Sequence

from agents.trajectory import Trajectory
from reason_envs.core import AgentId, Message

MAX_MESSAGE_CHARS = 600
"""Maximum length of a message in characters. A longer message is shown without its middle."""


def as_text(trajectory: Trajectory) -> str:
    """Write an episode as text.

    If the environment renders the episode as text, the transcript shows the first prompt of each agent and the
    rendered episode. Otherwise it is a dialogue: for each decision, the new part of the prompt and the response.
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
    """Return the new part of a prompt: messages that changed. A message that was extended begins at its new text."""
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
    if len(text) > MAX_MESSAGE_CHARS:
        half, left_out = MAX_MESSAGE_CHARS // 2, len(text) - MAX_MESSAGE_CHARS
        text = f"{text[:half]} [… {left_out:,} characters …] {text[-half:]}"
    return f"  {message['role']}:\n{_indented(text, 4)}\n"


def _indented(text: str, by: int = 2) -> str:
    return textwrap.indent(text or "(empty)", " " * by, lambda line: True)


def _outcome(trajectory: Trajectory) -> str:
    if trajectory.failure:
        return f"left out, because an engine failed: {trajectory.failure}"
    correct = trajectory.metrics.get("correct")
    if correct is None:
        verdict = ""
    elif 0 < correct < 1:
        verdict = f"{correct:.0%} correct, "
    else:
        verdict = "correct, " if correct else "wrong, "
    limit = ", truncated by a limit" if trajectory.truncated else ""
    return f"{verdict}return {trajectory.total_reward:+.2f}, {trajectory.generated_tokens:,} tokens{limit}"
