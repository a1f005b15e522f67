"""One real ComfyUI for all tests that need a host."""

import pytest

from comfyui import Server
from support.host import HOST_PACKS, Host, assemble

HOST = pytest.StashKey[Host]()


@pytest.fixture(scope="session")
def host(request, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    weights = assemble(base / "models")
    elsewhere = base / "elsewhere"
    (elsewhere / "my llms/an llm").mkdir(parents=True)
    (elsewhere / "my llms/an llm/config.json").write_text("{}")
    (elsewhere / "my llms/model.Q4_0.gguf").touch()
    (elsewhere / "my ella").mkdir()
    (elsewhere / "my ella/other.safetensors").touch()
    paths = base / "paths.yaml"
    paths.write_text(f"x:\n  base_path: '{elsewhere}'\n  ella: my ella\n  ella_encoder: my llms\n")
    arguments = ["--cpu", "--extra-model-paths-config", str(paths)]
    with Server(base, arguments, [HOST_PACKS / "ella_test_nodes"]) as server:
        request.config.stash[HOST] = Host(server, weights)
        yield request.config.stash[HOST]
        del request.config.stash[HOST]


@pytest.fixture(scope="module", autouse=True)
def nothing_kept(request):
    """The tests of a file find the same server whatever file came before.

    What the connector keeps of a prompt depends, in the last digit, on the prompts that it was
    computed with.
    """
    if host := request.config.stash.get(HOST, None):
        host.forget()
