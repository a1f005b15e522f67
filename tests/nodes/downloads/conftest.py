"""A hub on this machine and a real ComfyUI that downloads from it."""

import pytest

from comfyui import Server
from support.host import Host
from support.hub import CHUNK, CONNECTOR, Hub, remove_models, small_repository
from tiny_models import draw_checkpoint

FILLER = b" " * 2 * CHUNK  # makes a small model's file long enough to be interrupted in


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A repository like the released one, with small models."""
    return small_repository(tmp_path_factory.mktemp("repo"))


@pytest.fixture(scope="module")
def hub_and_host(files, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    draw_checkpoint(base / "models/checkpoints/sd15.safetensors")
    with (
        Hub(files) as hub,
        Server(base, ["--cpu"], environment=hub.environment(base / "home")) as server,
    ):
        yield hub, Host(server, {})


@pytest.fixture
def hub(hub_and_host, files):
    hub, _ = hub_and_host
    hub.heal(files)
    return hub


@pytest.fixture
def host(hub_and_host):
    """Without any model of ELLA's."""
    _, host = hub_and_host
    remove_models(host.models)
    return host


@pytest.fixture
def long_connector(hub):
    """The connector's file behind bytes that make it long. Only for downloading."""
    hub.files[CONNECTOR] = FILLER + hub.files[CONNECTOR]
    return hub.files[CONNECTOR]
