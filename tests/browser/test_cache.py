"""The command that clears the cache of encoded prompts, in ComfyUI's own editor."""

import json
import uuid

import pytest

from bootstrap import ROOT
from editor import MENU
from support.host import T5
from workflow import set_widgets

WORKFLOW = ROOT / "workflows/ella-text-to-image.json"
SMALL = {"ckpt_name": "sd15.safetensors", "ella_name": "tsc.safetensors", "llm_name": T5}


@pytest.fixture
def entries(editor, host):
    """The cache's files, two of them those of prompts that have just been encoded."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    set_widgets(workflow, **SMALL, width=64, height=64, steps=1)
    for node in workflow["nodes"]:
        if node["type"] == "ELLALLMTextEncode":
            node["widgets_values"][0] = f"A cat. {uuid.uuid4()}"
    editor.load(workflow)
    assert editor.run().error is None
    return list((host.server.base / "user/__ella/features").iterdir())


def clear_cache(editor):
    editor.choose("ELLA", "Clear the cache of encoded prompts")


def toast(editor, severity, text):
    message = editor.page.locator(f".p-toast-message-{severity}")
    message.get_by_text(text, exact=True).wait_for(timeout=20_000)


def test_clears_the_cache_and_says_how_much_it_was(editor, entries):
    assert len(entries) >= 2
    size = sum(file.stat().st_size for file in entries) / 2**20
    clear_cache(editor)
    toast(editor, "success", f"Deleted {len(entries)} encoded prompts and freed {size:.1f} MiB.")
    assert list(entries[0].parent.iterdir()) == []
    clear_cache(editor)
    toast(editor, "info", "The cache of encoded prompts was empty.")


def test_the_download_stands_first_in_the_menu(editor):
    editor.page.locator(MENU).click()
    entries = editor.page.locator(".comfy-command-menu")
    download = entries.get_by_text("Download ELLA models ...", exact=True)
    for _ in range(10):  # see Editor.choose
        entries.get_by_text("ELLA", exact=True).hover()
        editor.page.wait_for_timeout(500)
        if download.is_visible():
            break
        editor.page.mouse.move(3, 3)
    clear = entries.get_by_text("Clear the cache of encoded prompts", exact=True)
    above, below = download.bounding_box(), clear.bounding_box()
    editor.page.keyboard.press("Escape")
    editor.page.mouse.click(800, 800)
    assert above["y"] < below["y"]


def test_says_when_it_was_not_cleared(editor, entries):
    route = "**/ella/cache/clear"
    editor.page.route(route, lambda request: request.fulfill(status=500))
    clear_cache(editor)
    toast(editor, "error", "The cache was not cleared: 500 Internal Server Error")
    editor.page.unroute(route)
    assert all(file.exists() for file in entries)
