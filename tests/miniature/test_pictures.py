"""The shipped miniature paints held-out captions in a real ComfyUI; its pixels are judged.

Each breakage shows that the floor is above what a broken part leaves. None is of the timestep: the
shipped connector was aligned with tokens that are the same at every timestep.
"""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from bootstrap import ROOT
from comfyui import Server
from miniature import evaluation, shipping, timesteps
from smollm2 import NAME
from support import miniature

FLOOR = 0.75
PROMPTS = evaluation.prompts("scenes", 24, seed=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("miniature")
    miniature.install(base / "models")
    break_tokenizer(base / "models/text_encoders")
    break_order(base / "models/text_encoders")
    with Server(base, ["--cpu"], [timesteps.PACK]) as running:
        yield running


def break_tokenizer(llms):
    """Write an LLM whose words have each other's ids."""
    shutil.copytree(llms / NAME, llms / "broken")
    path = llms / "broken/tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"] for token in content["added_tokens"]}
    vocabulary = content["model"]["vocab"]
    words = [word for word in vocabulary if word not in special]
    ids = [vocabulary[word] for word in words]
    vocabulary |= zip(words, ids[1:] + ids[:1], strict=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def break_order(llms):
    """Write an LLM with another base of its rotary embedding."""
    shutil.copytree(llms / NAME, llms / "disordered")
    path = llms / "disordered/config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["rope_parameters"]["rope_theta"] = 1.5
    path.write_text(json.dumps(config), encoding="utf-8")


def tokenizer(server):
    return {"llm_name": "broken"}


def connector(server):
    """Its first layer takes the halves of the features for each other."""
    state, metadata = shipping.unpack(shipping.DATA / "connector.safetensors.xz")
    state["connector.proj_in.weight"] = state["connector.proj_in.weight"].roll(288, 1)
    save_file(state, server.base / "models/ella/broken.safetensors", metadata)
    return {"ella_name": "broken.safetensors"}


def llm(server):
    """Its rotary embedding turns at another speed: it knows words, but not their order."""
    return {"llm_name": "disordered"}


def wrapper(server):
    """Positive and negative get each other's tokens."""

    def exchange(api):
        (sampler,) = (node for node in api.values() if node["class_type"] == "KSampler")
        inputs = sampler["inputs"]
        inputs["positive"], inputs["negative"] = inputs["negative"], inputs["positive"]

    return {"edit": exchange}


def paint_and_judge(server, prompts, **changes):
    pictures = list(evaluation.paint(server, prompts, **changes))
    return evaluation.judge_all(pictures, prompts)


def test_held_out_prompts_are_painted_right(server):
    verdict = paint_and_judge(server, PROMPTS)
    assert verdict["objects_right"] >= FLOOR, verdict
    assert verdict["shuffled"] <= 0.2, verdict


def in_one_node(api):
    """Have ELLA Prompt do what four nodes do, with the models that Load ELLA Models chooses."""
    (both,) = (n for n in api.values() if n["class_type"] == "ELLATimestepConditioning")
    texts = {name: api[both["inputs"][name][0]]["inputs"] for name in ("positive", "negative")}
    api["models"] = {"class_type": "ELLALoadModels", "inputs": {"llm_name": NAME}}
    both["class_type"] = "ELLAPrompt"
    both["inputs"] = {
        "model": both["inputs"]["model"],
        "ella": ["models", 0],
        "llm": ["models", 1],
        **{name: text["text"] for name, text in texts.items()},
    }


def test_one_node_paints_the_same(server):
    made = PROMPTS[:2]
    pairs = zip(
        evaluation.paint(server, made),
        evaluation.paint(server, made, edit=in_one_node),
        strict=True,
    )
    assert all((four == one).all() for four, one in pairs)


def test_the_graph_of_the_page_about_the_api(server):
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    graph = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    (prompt,) = PROMPTS[:1]
    names = {"ckpt_name": shipping.CHECKPOINT, "ella_name": shipping.CONNECTOR}
    chosen = {**names, **evaluation.SAMPLING, "seed": prompt.seed}
    for node in graph.values():
        node["inputs"] |= {k: v for k, v in chosen.items() if k in node["inputs"]}
    graph["2"]["inputs"]["llm_name"] = NAME  # the broken ones fit, too
    graph["3"]["inputs"]["positive"] = prompt.text
    result = server.run(graph)
    assert result.error is None, result.error
    (saved,) = result.outputs["7"]["images"]
    picture = Image.open(server.base / "output" / saved["filename"]).convert("RGB")
    pixels = np.asarray(picture, np.float32) / 255
    assert evaluation.judge_all([pixels], [prompt])["objects_right"] == 1


@pytest.mark.parametrize("broken", [tokenizer, llm, connector, wrapper])
def test_a_broken_part_falls_through(server, broken):
    verdict = paint_and_judge(server, PROMPTS[:4], **broken(server))
    assert verdict["objects_right"] < FLOOR, verdict


def test_windows_are_right_for_a_schedule_that_is_uniform_in_timestep(server):
    made = PROMPTS[:1]
    exact, windows = (
        next(evaluation.paint(server, made, edit=timesteps.edit(way)))
        for way in ("exact", "windows")
    )
    assert abs(exact - windows).max() < 0.02


def test_every_way_paints_from_a_picture(server):
    verdicts = timesteps.compare(server, PROMPTS[:1], "denoise 0.5")
    assert {way: verdict["background"] for way, verdict in verdicts.items()} == {
        "exact": 1.0,
        "frozen": 1.0,
        "windows": 1.0,
    }
