"""Upload of the final policy to the Hugging Face hub.

The repository is created before the run starts, so that a missing token or a bad name costs no training.
"""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from reason_envs.errors import ReasonEnvsError, first_line

HUB_ERRORS = (HfHubHTTPError, HFValidationError, HTTPError, OSError)
"""Errors of the hub's client if a request fails or the hub does not answer."""


def create_repository(repository: str) -> None:
    """Create a private repository ``NAME`` or ``OWNER/NAME``, unless it exists.

    Raises:
        ReasonEnvsError: the token is missing, the name is invalid, or the hub refuses or does not answer.
    """
    if get_token() is None:
        raise ReasonEnvsError(
            f"push_to_hub={repository} requires a token with write permission: run `hf auth login` or set HF_TOKEN. "
            "Without push_to_hub you can upload policy_final later."
        )
    try:
        HfApi().create_repo(repository, private=True, exist_ok=True)
    except HUB_ERRORS as error:
        raise ReasonEnvsError(
            f"push_to_hub={repository}: cannot create the repository ({first_line(error)}). Check the name and the "
            "write permission of the token, or leave push_to_hub out."
        ) from error


def push(repository: str, folder: Path, step: int) -> str:
    """Upload the folder of the policy in one commit, whose message names the training step; return its URL.

    Raises:
        ReasonEnvsError: the hub refuses or does not answer. The folder does not change and can be uploaded later.
    """
    try:
        api = HfApi()
        # The hub completes a bare name with the owner of the token.
        name = api.create_repo(repository, exist_ok=True).repo_id
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"Policy after {step} steps")
    except HUB_ERRORS as error:
        raise ReasonEnvsError(
            f"push_to_hub={repository} failed ({first_line(error)}). The policy is saved in {folder}: upload it with "
            f"`hf upload {repository} {folder}`, or resume the run."
        ) from error
    return str(commit.commit_url)
