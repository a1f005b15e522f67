"""A fresh install, with no model anywhere: the dropdowns say what to put where."""

import pytest

from comfyui import Server
from support.host import EllaGraph


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("fresh"), ["--cpu"]) as server:
        yield server


def test_empty_dropdowns_say_what_to_put_where(fresh):
    (connector,) = options(fresh, "ELLALoad", "ella_name")
    assert connector == "models/ella has no connector: put ella-sd1.5-tsc-t5xl.safetensors there"
    (llm,) = options(fresh, "ELLALoadLLM", "llm_name")
    assert llm == "models/text_encoders has no LLM: put the FLAN-T5-XL encoder's folder there"


def test_running_them_says_it_in_the_error_dialog(fresh):
    graph = EllaGraph(ella=options(fresh, "ELLALoad", "ella_name")[0])
    # Of the whole graph only the node in question can run without a checkpoint.
    loader = graph.nodes[graph.ella.id]
    preview = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    result = fresh.run({"1": loader, "2": preview})
    assert result.error is not None
    message = result.error["exception_message"]
    assert "QQGYLab/ELLA" in message
    assert str(fresh.base / "models/ella") in message
    assert "press R in the editor" in message


def test_new_nodes_have_the_released_models_if_these_are_there(fresh):
    connector, llm = "ella-sd1.5-tsc-t5xl.safetensors", "models--google--flan-t5-xl--text_encoder"
    for name in ("a.safetensors", connector, "z.safetensors"):
        (fresh.base / "models/ella").mkdir(parents=True, exist_ok=True)
        (fresh.base / "models/ella" / name).touch()
    for name in ("a", f"of ella/{llm}", "z"):
        (fresh.base / "models/text_encoders" / name).mkdir(parents=True)
        (fresh.base / "models/text_encoders" / name / "config.json").touch()
    expected = [connector, "a.safetensors", "z.safetensors"]
    assert options(fresh, "ELLALoad", "ella_name") == expected
    assert options(fresh, "ELLALoadLLM", "llm_name") == [f"of ella/{llm}", "a", "z"]


def options(server, node, name):
    return server.get(f"/object_info/{node}")[node]["input"]["required"][name][1]["options"]
