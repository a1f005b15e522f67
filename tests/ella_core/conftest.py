"""Downloads from a hub on this machine, with the oldest and the installed huggingface_hub."""

import os

import pytest

from bootstrap import old_transformers
from support.fetcher import Fetcher
from support.hub import FILES, Hub


@pytest.fixture(scope="module")
def server():
    with Hub(FILES) as server:
        yield server


@pytest.fixture
def hub(server):
    server.heal(FILES)
    return server


@pytest.fixture(scope="module", params=["oldest", "installed"])
def environment(request, server, tmp_path_factory):
    return {
        **os.environ,
        **server.environment(tmp_path_factory.mktemp("home")),  # no login of the developer's
        "PYTHONPATH": str(old_transformers()) if request.param == "oldest" else "",
        "HF_HUB_ENABLE_HF_TRANSFER": "1",  # without hf_transfer, as in many a container
    }


@pytest.fixture(scope="module")
def fetcher(environment):
    with Fetcher(None, environment) as fetcher:
        yield fetcher


@pytest.fixture
def fetch(hub, fetcher, tmp_path):
    fetcher.folder = tmp_path
    return fetcher


@pytest.fixture
def fetch_with(hub, environment, tmp_path):
    """Further environment variables -> what comes of fetching the connector."""

    def run(**variables):
        with Fetcher(tmp_path, {**environment, **variables}) as fetcher:
            return fetcher()

    return run
