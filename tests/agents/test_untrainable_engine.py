"""A run whose engine cannot take new weights stops before anything is sent or written."""

import pytest
from openai_server import Server

from agents.compose import compose_config
from agents.runs import build
from reason_envs.errors import ReasonEnvsError


def test_training_through_a_server_is_refused(tmp_path):
    server = Server()
    try:
        overrides = ["engine=openai", f"engine.base_url={server.url}", f"output_dir={tmp_path / 'run'}"]
        with pytest.raises(ReasonEnvsError, match=r"engine=openai cannot take new weights.*engine=transformers"):
            build(compose_config(overrides))
    finally:
        server.close()
    assert server.bodies == []
    assert list(tmp_path.iterdir()) == []
