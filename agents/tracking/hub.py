"""Sending a final policy to the Hugging Face hub: asked for before anything is computed, done at the end."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from reason_envs.errors import ReasonEnvsError, first_line

TROUBLE = (HfHubHTTPError, HFValidationError, HTTPError, OSError)
"""What the hub's client raises when it is refused or cannot be reached."""


def claim(repository: str, *, private: bool) -> None:
    """Create the repository, or find that it is there, so that a run does not end with nowhere to go.

    Args:
        repository: ``NAME`` or ``OWNER/NAME``.
        private: whether a new one is private; one that exists stays as it is.

    Raises:
        ReasonEnvsError: no token, a bad name, or the hub refuses or does not answer.
    """
    if get_token() is None:
        raise ReasonEnvsError(
            f"push_to_hub={repository} needs a token that may write: run `hf auth login`, or set HF_TOKEN. Or leave "
            "push_to_hub out and upload policy_final later."
        )
    try:
        HfApi().create_repo(repository, private=private, exist_ok=True)
    except TROUBLE as error:
        raise ReasonEnvsError(
            f"push_to_hub={repository}: the hub does not take it ({first_line(error)}). Check the name and the "
            "token's permission to write, or leave push_to_hub out."
        ) from error


def push(repository: str, folder: Path, step: int) -> str:
    """Upload a folder as one commit; return its address.

    Raises:
        ReasonEnvsError: the hub refuses or does not answer; the folder is whole and can be sent again.
    """
    try:
        api = HfApi()
        # A bare name belongs to whoever the token is.
        name = api.create_repo(repository, exist_ok=True).repo_id
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Policy after {step} steps")
    except TROUBLE as error:
        raise ReasonEnvsError(
            f"push_to_hub={repository} failed ({first_line(error)}). The policy is whole in {folder}: "
            f"`hf upload {repository} {folder}` sends it, or resume the run."
        ) from error
    return str(commit.commit_url)
