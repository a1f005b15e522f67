"""What the editor's user does, judged by its pictures: the miniature paints held-out captions."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from comfyui import Server
from editor import Editor
from miniature import evaluation, extras, judge, templates
from miniature.world import Scene, Thing
from smollm2 import NAME
from support import miniature
from support.graph_shapes import BUILD, base, sample
from tiny_models import import_host
from workflow import set_widgets

TEMPLATES = templates.adapt_all(NAME)
#: Two captions that the shipped miniature paints right.
PROMPTS = evaluation.prompts("scenes", 2, seed=0)
#: Sets widgets by their names, and the texts of positive and negative.
CHOOSE = """([chosen, texts]) => {
  for (const node of app.graph.nodes)
    for (const widget of node.widgets ?? []) widget.value = chosen[widget.name] ?? widget.value
  texts.forEach((text, i) => { [built.positive, built.negative][i].widgets[0].value = text })
}"""
LOAD_EMBEDS = """name => {
  const making = /^ELLA(PromptList|LLMTextEncode|SaveEmbeds|LoadEmbeds)$/
  for (const node of app.graph.nodes.filter(({ type }) => making.test(type))) app.graph.remove(node)
  const node = LiteGraph.createNode("ELLALoadEmbeds")
  app.graph.add(node)
  node.widgets[0].value = name
  node.connect(0, app.graph.nodes.find(({ type }) => type === "ELLATimestepConditioning"), 2)
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniature")
    import_host()
    miniature.install(folder / "models")
    extras.install(folder / "models")
    with Server(folder, ["--cpu"]) as running:
        yield running


@pytest.fixture(scope="module")
def open_editor(browser, server):
    return Editor(browser, server)


def paint(editor, server):
    """Press Run and return the pictures that were saved, with their files."""
    done = editor.run()
    assert done.error is None, done.error
    folder = server.base / "output"
    saved = [image for output in done.outputs.values() for image in output.get("images", ())]
    files = [folder / each["subfolder"] / each["filename"] for each in saved]
    return [np.asarray(Image.open(f).convert("RGB"), np.float32) / 255 for f in files], files


def objects_right(pictures, prompts):
    return evaluation.judge_all(pictures, prompts)["objects_right"]


def template(name, **widgets):
    """A template with one seed for all runs, and without what the miniature has never seen."""
    workflow = set_widgets(TEMPLATES[name], **widgets)
    for node in workflow["nodes"]:
        if node.get("title", "").startswith("Negative"):
            set_widgets({"nodes": [node]}, text="")
        if node["type"] == "KSampler":
            node["widgets_values"][1] = "fixed"
    return workflow


def test_a_clip_graph_paints_what_its_prompt_says_once_ella_reads_it(editor, server):
    """With CLIP, of which the miniature knows nothing, it can't."""
    (prompt,) = PROMPTS[:1]
    editor.page.evaluate(BUILD, [*base(), *sample()])
    sampling = {"seed": prompt.seed, "control_after_generate": "fixed", **evaluation.SAMPLING}
    chosen = {"ckpt_name": extras.CHECKPOINT_WITH_CLIP, **sampling}
    editor.page.evaluate(CHOOSE, [chosen, [prompt.text, ""]])
    editor.load(editor.serialize())  # as a user would have it: with an id
    pictures, _ = paint(editor, server)
    assert objects_right(pictures, [prompt]) == 0

    editor.page.evaluate("app.canvas.deselectAll()")
    editor.page.evaluate("app.extensionManager.command.execute('ELLA.ReadPrompts')")
    editor.page.wait_for_function("app.graph.nodes.some(({ type }) => type.startsWith('ELLA'))")
    pictures, _ = paint(editor, server)
    assert objects_right(pictures, [prompt]) == 1


def test_a_list_paints_each_of_its_prompts_and_what_was_saved_paints_it_again(editor, server):
    lines = "\n".join(prompt.text for prompt in PROMPTS)
    editor.load(template("ella-prompt-list", text=lines, seed=PROMPTS[0].seed))
    pictures, _ = paint(editor, server)
    assert objects_right(pictures, PROMPTS) == 1

    files = sorted(path.name for path in (server.base / "output/ella_embeds").iterdir())
    assert len(files) == len(PROMPTS)
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    for name, picture in zip(files, pictures, strict=True):
        editor.page.evaluate(LOAD_EMBEDS, name)
        (again,), _ = paint(editor, server)
        assert abs(again - picture).max() < 0.01


def test_the_words_that_were_drawn_are_painted_and_noted_in_the_picture(editor, server):
    editor.load(template("ella-text-to-image", text="a {red|blue} circle in the centre"))
    (picture,), (file,) = paint(editor, server)
    with Image.open(file) as image:
        prompt = json.loads(image.info["prompt"])
    texts = [str(node["inputs"].get("text")) for node in prompt.values()]
    (colour,) = (m[1] for text in texts if (m := re.search(r"^a (red|blue) circle", text)))
    scene = Scene("white", (Thing("circle", colour, "large", 4),))
    assert judge.judge(picture, scene).objects_right == 1
