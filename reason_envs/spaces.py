"""A space of text in any script, which Gymnasium lacks."""

import string
from typing import Any, NoReturn

import numpy as np
from gymnasium.spaces import Text
from gymnasium.vector.utils import create_shared_memory

from reason_envs.errors import ReasonEnvsError

SAMPLE_CHARACTERS = string.printable + "äéñß√≤π∑漢字🙂"
"""Characters of random texts. The space contains all other characters too."""


class UnicodeText(Text):
    """Every string of ``min_length`` to ``max_length`` characters of valid Unicode.

    Gymnasium's ``Text`` accepts only the characters of a fixed set, and chat text contains others. `sample` draws a
    length and then as many of `SAMPLE_CHARACTERS`.
    """

    def __init__(self, max_length: int, *, min_length: int = 0, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=min_length, charset=SAMPLE_CHARACTERS, seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string of an allowed length without lone surrogates, which are not valid Unicode."""
        is_short = isinstance(x, str) and self.min_length <= len(x) <= self.max_length
        return is_short and x == x.encode(errors="replace").decode()

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length}, min_length={self.min_length})"

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, UnicodeText) and super().__eq__(other)


@create_shared_memory.register(UnicodeText)
def _refuse_shared_memory(space: UnicodeText, n: int = 1, ctx: Any = None) -> NoReturn:
    raise ReasonEnvsError(
        f"{space} does not support shared memory: AsyncVectorEnv would return constant text. Use "
        "gymnasium.make_vec(id, num_envs=...), which batches all environments in one process, or pass "
        "shared_memory=False to AsyncVectorEnv."
    )
