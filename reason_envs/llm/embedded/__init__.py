"""The small language models that ship with the library: weights, tokenizers and cards.

`benchmarks/embedded_models` holds the scripts that trained them.
May import errors only.
"""

from pathlib import Path

from reason_envs.errors import unknown_name

EMBEDDED_DIR = Path(__file__).parent
"""Folder with one folder per shipped model."""


def is_embedded(model: str) -> bool:
    """Return whether a model ships with the package: ``embedded`` or ``embedded:NAME``."""
    return model.partition(":")[0] == "embedded"


def path(name: str = "base") -> Path:
    """Return the folder of a shipped model, which ``AutoModelForCausalLM.from_pretrained`` can load.

    Raises:
        ReasonEnvsError: no model of this name ships with the package.
    """
    folder = EMBEDDED_DIR / name
    if not (folder / "config.json").is_file():
        raise unknown_name("embedded model", name, [p.parent.name for p in EMBEDDED_DIR.glob("*/config.json")])
    return folder
