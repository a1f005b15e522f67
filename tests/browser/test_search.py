"""The editor's node search finds the nodes by what they do, too."""

import pytest

TITLES = {
    "t5": "Load LLM (ELLA)",
    "flan": "Load LLM (ELLA)",
    "text encoder": "Load LLM (ELLA)",
    "llm": "Load LLM (ELLA)",
    "long prompt": "LLM Text Encode (ELLA)",
    "ella": "ELLA Prompt",
}
WORDS = {
    "t5": "ELLALoadLLM",
    "FLAN": "ELLALoadLLM",
    "text encoder ": "ELLALoadLLM",
    "long prompt": "ELLALLMTextEncode",
}


def open_search(editor):
    """The search's input. A double click would be two clicks on a busy machine."""
    editor.page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    # The second is that of newer editors.
    boxes = "input[id^=comfy-vue-node-search-box-input], input[aria-controls=results-list]"
    box = editor.page.locator(boxes)
    box.wait_for(timeout=20_000)
    return box


def found(editor):
    """What the search shows, best first."""
    results = ".option-display-name > div:first-child, #results-list [role=option]"
    texts = editor.page.locator(results).all_inner_texts()
    return [text.splitlines()[0].strip() for text in texts]


def take_first(editor, box):
    box.press("Enter")
    box.wait_for(state="hidden")
    editor.page.mouse.click(800, 450)  # newer editors let the user choose the place
    editor.page.wait_for_function("app.graph.nodes.length === 1")


def test_finds_the_nodes_before_those_of_others(editor):
    page, box = editor.page, open_search(editor)

    def search(words):
        box.fill(words)
        page.wait_for_timeout(1000)
        return found(editor)

    for words, title in TITLES.items():
        titles = search(words)
        at = [i for i, text in enumerate(titles) if text.startswith(title)]
        assert at, (words, titles)
        assert all("ELLA" in text for text in titles[: at[0]]), (words, titles)
    assert not any("ELLA" in text for text in search("upscale"))
    assert "ELLA" not in search("load")[0]
    assert "ELLA" not in search("encode")[0]
    page.keyboard.press("Escape")


def test_enter_takes_the_node_whose_word_was_typed(editor):
    """Also before T5TokenizerOptions, whose id begins with the word."""
    page = editor.page
    for words, node in WORDS.items():
        page.evaluate("app.graph.clear()")
        box = open_search(editor)
        box.fill(words)
        page.wait_for_timeout(1000)  # the editor searches some time after the last key
        take_first(editor, box)
        assert page.evaluate("app.graph.nodes[0].comfyClass") == node, words


def test_the_title_on_the_canvas_is_the_nodes_own(editor):
    page, box = editor.page, open_search(editor)
    box.fill("ELLALoadLLM")
    page.get_by_text("Load LLM (ELLA)").first.wait_for()
    page.wait_for_timeout(1000)
    take_first(editor, box)
    assert page.evaluate("app.graph.nodes[0].title") == "Load LLM (ELLA)"


@pytest.mark.parametrize("refreshed", [False, True])
def test_a_dropped_link_gets_no_deprecated_nodes_of_this_pack(editor, refreshed):
    """In the whole of the editor's lists: a setting says how many of each it offers."""
    if refreshed:
        editor.page.evaluate("app.refreshComboInNodes()")  # as the key R does
    suggested = """() => {
      const lists = app.extensions.find(({ name }) => name === "Comfy.SlotDefaults")
      return [lists.slot_types_default_out, lists.slot_types_default_in]
        .flatMap((list) => ["ELLA", "ELLA_EMBEDS", "CONDITIONING"].flatMap((type) => list[type]))
    }"""
    names = editor.page.evaluate(suggested)
    assert {"ELLATimestepConditioning", "ELLAConditioning", "ELLALoad"} <= set(names)
    nodes = "names => names.map(name => LiteGraph.registered_node_types[name]?.nodeData)"
    assert not any(
        node and node["deprecated"] and node["category"].startswith("ELLA")
        for node in editor.page.evaluate(nodes, names)
    )
