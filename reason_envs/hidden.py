"""Failed imports explained: modules that another package named ``agents`` hides."""

from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""Folder that holds both packages of this library."""


class HiddenModules(MetaPathFinder):
    """Explains failed imports of modules of this library. It is the last finder, so other imports never reach it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return ``None`` for modules that do not exist.

        Raises:
            ImportError: another package hides the module.
        """
        file = ROOT.joinpath(*fullname.split("."))
        if fullname.startswith(("agents.", "reason_envs.")) and (file.is_dir() or file.with_suffix(".py").is_file()):
            raise ImportError(
                f"Another package named {fullname.partition('.')[0]!r} in {list(path or ())} hides {fullname!r}. "
                "Uninstall it (openai-agents provides such a package), or use separate virtual environments.",
                name=fullname,
            )
        return None
