"""Files beside the modules that read them, and files that are written atomically."""

from pathlib import Path
from typing import Any

import yaml


def read_text(module: str, name: str) -> str:
    """Return the text of the file ``name`` in the folder of a module, whose ``__file__`` is given."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


def read_table(module: str, name: str) -> Any:
    """Return the contents of the YAML file ``name`` in the folder of a module, whose ``__file__`` is given."""
    return yaml.safe_load(read_text(module, name))


def replace_file(path: Path, text: str) -> None:
    """Write a text file atomically. Lone surrogates, which some decoders produce, become question marks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(text.encode("utf-8", "replace"))
    partial.replace(path)
