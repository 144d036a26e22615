"""Write a package with an environment, its tests and a README: reason-envs new NAME."""

import sys
from pathlib import Path
from string import Template

from reason_envs.errors import RunError

TEMPLATE = Path(__file__).with_name("template")
"""Folder of the template. ``NAME`` in paths, and ``$NAME``, ``$Name``, ``$Id`` in texts, are replaced."""


def write_package(name: str, parent: Path) -> Path:
    """Write the package to the folder ``parent / name`` and return that folder.

    Raises:
        RunError: the name is not a lower-case name of Python, or the folder exists.
    """
    folder = parent / name
    if not name.isidentifier() or name != name.lower():
        raise RunError(f"{name!r} cannot name a package: use lower-case letters, digits and _, such as my_env.")
    if folder.exists():
        raise RunError(f"{folder} exists already: choose another name, or remove that folder.")
    names = {"NAME": name, "Name": name.title().replace("_", ""), "Id": f"{name.title().replace('_', '')}-v0"}
    for source in TEMPLATE.rglob("*.txt"):
        target = folder / str(source.relative_to(TEMPLATE).with_suffix("")).replace("NAME", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(source.read_text(encoding="utf-8")).substitute(names), encoding="utf-8")
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(f"{__doc__}\nNAME is lower-case, such as my_env; it becomes a folder and the id MyEnv-v0.")
        raise SystemExit(len(sys.argv) != 2)
    try:
        print((write_package(sys.argv[1], Path()) / "README.md").read_text(encoding="utf-8"))
    except (RunError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
