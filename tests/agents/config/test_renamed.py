"""Configuration keys that no longer exist say what replaces them."""

import pytest
from omegaconf import OmegaConf

from agents.config.compose import compose_config
from agents.config.renamed import RENAMED
from agents.training.folder import read_config, write_config
from reason_envs.errors import ReasonEnvsError


@pytest.mark.parametrize("key", RENAMED)
def test_a_renamed_key_names_its_replacement_on_the_command_line(key):
    with pytest.raises(ReasonEnvsError) as caught:
        compose_config([f"{key}=1"])
    assert str(caught.value) == f"The key {key!r} no longer exists: {RENAMED[key]}."


@pytest.mark.parametrize("key", RENAMED)
def test_a_renamed_key_names_its_replacement_in_a_run_folder(key, tmp_path):
    write_config(tmp_path, compose_config([]))
    config = OmegaConf.load(tmp_path / "config.yaml")
    OmegaConf.update(config, key, 1, force_add=True)
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(ReasonEnvsError) as caught:
        read_config(tmp_path)
    assert str(caught.value) == f"The key {key!r} no longer exists: {RENAMED[key]}."


def test_other_unknown_keys_suggest_valid_ones():
    with pytest.raises(ReasonEnvsError, match=r"Unknown key 'sampels'\. "):
        compose_config(["sampels=1"])
