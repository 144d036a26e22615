"""Strings that end a completion, checked at each decoding step."""

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Finds stop strings in the text of sampled tokens."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        # A token has at least one byte of text, so the longest stop string spans at most as many tokens as it has
        # bytes. One more token, because some tokenizers drop the leading space of the first.
        self._window = 1 + max((len(s.encode()) for s in stop), default=0)
        self._last = {s[-1] for s in stop}
        self._may_end: dict[int, bool] = {}

    def ends(self, token_ids: Sequence[int]) -> bool:
        """Return whether the last token completes a stop string."""
        if not self._stop or not self._is_candidate(token_ids[-1]):
            return False
        tail = list(token_ids[-self._window :])
        with_last, before = self._tokenizer.decode(tail), self._tokenizer.decode(tail[:-1])
        return any(with_last.count(s) > before.count(s) for s in self._stop)

    def _is_candidate(self, token: int) -> bool:
        """Return whether a token contains the last character of a stop string, or part of a multi-byte character."""
        if token not in self._may_end:
            text = self._tokenizer.decode([token])
            self._may_end[token] = "\ufffd" in text or any(c in text for c in self._last)
        return self._may_end[token]

    @staticmethod
    def cut(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
        """Return the text before its first stop string, and that string; ``None`` in its place if there is none."""
        found = min(((at, s) for s in stop if (at := text.find(s)) >= 0), default=None)
        return (text, None) if found is None else (text[: found[0]], found[1])
