"""Checks of the text interface for language policies: messages, and actions as text."""

from typing import Any

from gymnasium.spaces import Discrete, Text

from reason_envs.check.episodes import check_finite, reports_invalid, take
from reason_envs.check.play import INVALID, RESPONSES, Subject
from reason_envs.check.results import CheckFailure, NotApplicable
from reason_envs.core import checked_reset, checked_step

LONG = 100_000
"""Number of characters of a very long text."""
ROLES = ("system", "user", "assistant")
GARBAGE = ("", " \n\t ", "\x00\x1b[31m", "漢字 🙂 \u202eß \u0000", "```json\n{", "-1", "nan", "None", "x" * LONG)
"""Texts most of which are not valid actions in any environment."""


def messages(subject: Subject) -> str:
    """Check the chat messages of every observation of an episode."""
    environment, count = subject.build(), 0
    result = subject.run(checked_reset(environment, seed=subject.seed))
    for turn in range(subject.max_steps):
        for observation in result.observations.values():
            _check_messages(environment.render_messages(observation))
            count += 1
        if result.done:
            break
        result = subject.run(checked_step(environment, subject.actions(environment, result, turn)))
    return f"{count} observations become valid chat messages"


def round_trip(subject: Subject) -> str:
    """Convert actions to text and back."""
    environment = subject.build()
    subject.run(checked_reset(environment, seed=subject.seed))
    space = environment.action_space(environment.agents[0])
    for text in subject.responses:
        action = environment.parse_action(text)
        if not space.contains(action):
            raise CheckFailure(
                f"parse_action converts the response {text[:60]!r} to {action!r}, which is not in {space}."
            )
    if isinstance(space, Discrete):
        names = environment.action_names
        texts = list(names) if names else [str(space.start + i) for i in range(space.n)]
        for i, text in enumerate(texts, start=int(space.start)):
            found = environment.parse_action(text)
            if found != i:
                raise CheckFailure(f"parse_action converts {text!r}, the name of action {i}, to {found!r}.")
        return f"{len(texts)} actions by {'name' if names else 'number'}"
    if not isinstance(space, Text):
        if subject.responses:
            return f"{len(subject.responses)} responses become actions"
        raise NotApplicable(f"it is unknown which texts are actions of {space}: give examples with --response")
    for text in (*subject.responses, *RESPONSES):
        action = environment.parse_action(text)
        if space.contains(action) and environment.parse_action(action) != action:
            raise CheckFailure(
                f"parse_action converts {text[:60]!r} to {action[:60]!r}, and this text to "
                f"{environment.parse_action(action)!r}."
            )
    return "parse_action converts its own result to the same action"


def garbage(subject: Subject) -> str:
    """Check the handling of unreadable responses."""
    environment = subject.build()
    subject.run(checked_reset(environment, seed=subject.seed))
    space = environment.action_space(environment.agents[0])
    for text in GARBAGE:
        shown = f"{text[:20]!r}{f' ({len(text)} characters)' if len(text) > 20 else ''}"
        action = environment.parse_action(text)
        result = subject.run(take(environment, subject.seed, action))
        check_finite(result, shown)
        if INVALID not in result.info:
            raise CheckFailure(f"info has no key {INVALID!r} after the response {shown}.")
        if not space.contains(action) and not reports_invalid(result.info):
            raise CheckFailure(
                f"The response {shown} becomes {str(action)[:40]!r}, which is not in the action space, but "
                f"info[{INVALID!r}] is {result.info[INVALID]!r}."
            )
    return f"{len(GARBAGE)} empty, unreadable and very long texts raise no error; invalid ones are reported"


def _check_messages(written: Any) -> None:
    if not isinstance(written, list) or not written:
        raise CheckFailure(f"render_messages must return a list of messages; it returned {str(written)[:60]!r}.")
    for message in written:
        is_complete = isinstance(message, dict) and message.keys() == {"role", "content"}
        if not is_complete or message["role"] not in ROLES or not isinstance(message["content"], str):
            raise CheckFailure(f"render_messages returned the invalid message {str(message)[:60]!r}.")
