"""Files beside the modules that read them."""

from pathlib import Path
from typing import Any

import yaml


def read_text(module: str, name: str) -> str:
    """Return the text of the file ``name`` in the folder of a module, whose ``__file__`` is given."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


def read_table(module: str, name: str) -> Any:
    """Return the contents of the YAML file ``name`` in the folder of a module, whose ``__file__`` is given."""
    return yaml.safe_load(read_text(module, name))
