"""The small language models that ship with the library: weights, tokenizers and cards.

`benchmarks/embedded_models` holds the scripts that trained them.
May import errors only.
"""

from __future__ import annotations

from pathlib import Path

from reason_envs.errors import unknown_name

EMBEDDED_DIR = Path(__file__).parent
"""Folder that holds one folder for each shipped model."""


def path(name: str = "base") -> Path:
    """Return the folder of a shipped model, ready for ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        ReasonEnvsError: no model of that name ships.
    """
    folder = EMBEDDED_DIR / name
    if not (folder / "config.json").is_file():
        shipped = [p.parent.name for p in EMBEDDED_DIR.glob("*/config.json")]
        raise unknown_name("embedded model", name, shipped)
    return folder
