"""The editor's node search finds the nodes by what they do, too."""

import pytest

TITLES = {
    "t5": "Load LLM (ELLA)",
    "text encoder": "Load LLM (ELLA)",
    "llm": "Load LLM (ELLA)",
    "long prompt": "LLM Text Encode (ELLA)",
    "ella": "ELLA Timestep Conditioning",
}


@pytest.fixture
def search(editor):
    """Search the nodes as after a double click on the canvas; returns the titles found."""
    editor.page.mouse.dblclick(800, 450)
    box = editor.page.locator("input[id^=comfy-vue-node-search-box-input]")

    def search(words):
        box.fill(words)
        editor.page.wait_for_timeout(600)
        return editor.page.locator(".option-display-name > div:first-child").all_inner_texts()

    yield search
    editor.page.keyboard.press("Escape")


@pytest.mark.parametrize("words", TITLES)
def test_finds_the_node_among_the_first(search, words):
    assert any(title.startswith(TITLES[words]) for title in search(words)[:7])


def test_other_words_do_not_find_it(search):
    assert not any("ELLA" in title for title in search("upscale"))


def test_the_title_on_the_canvas_is_the_nodes_own(editor):
    assert editor.page.evaluate("LiteGraph.createNode('ELLALoadLLM').title") == "Load LLM (ELLA)"
