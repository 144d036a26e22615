"""Configuration keys and presets that have another name or no longer exist."""

from reason_envs.errors import ReasonEnvsError
from reason_envs.resources import read_table

RENAMED, RENAMED_PRESETS, SYNONYMS = read_table(__file__, "names.yaml").values()
"""What to do instead of giving a removed key; what to write instead of a removed preset; names in other libraries."""


def meant(key: str) -> ReasonEnvsError | None:
    """Return the error for a key that has another name here; ``None`` if the name is unknown too."""
    if key == "experiment":
        return ReasonEnvsError("'experiment=' needs a plus sign, because a run has no preset yet: +experiment=NAME.")
    if key.startswith("env.reward."):
        return ReasonEnvsError(
            f"{key!r} is not an option of the default reward. Give options of another reward together with its name: "
            "env.reward='{name: my_module:my_reward, alpha: 0.9}'."
        )
    name = key.rpartition(".")[2].lower()
    found = [new for new, old in SYNONYMS.items() if name in (new.rpartition(".")[2], *old.split()) and new != key]
    return ReasonEnvsError(f"Unknown key {key!r}. Did you mean {found[0]!r}?") if found else None


def renamed_key(key: str) -> ReasonEnvsError | None:
    """Return the error for a key that no longer exists; ``None`` for every other key."""
    return ReasonEnvsError(f"The key {key!r} no longer exists: {RENAMED[key]}.") if key in RENAMED else None
