"""One real ComfyUI for all tests that need a host."""

import shutil

import hypothesis
import pytest

from bootstrap import host_dir
from comfyui import Server, other_packs
from support.host import HOST_PACKS, Host, assemble

# A busy machine takes its time: slow is no failure.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def host(tmp_path_factory):
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
    (base / "input").mkdir()  # with ComfyUI's own picture, which it has in its own folder
    shutil.copy(host_dir() / "input/example.png", base / "input")
    arguments = ["--cpu", "--extra-model-paths-config", str(paths)]
    packs = [HOST_PACKS / "ella_test_nodes", *other_packs()]
    with Server(base, arguments, packs) as server:
        yield Host(server, weights)
