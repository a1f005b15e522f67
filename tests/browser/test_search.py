"""The editor's node search finds the nodes by what they do, too."""

TITLES = {
    "t5": "Load LLM (ELLA)",
    "flan": "Load LLM (ELLA)",
    "flan t5": "Load LLM (ELLA)",
    "text encoder": "Load LLM (ELLA)",
    "llm": "Load LLM (ELLA)",
    "long prompt": "LLM Text Encode (ELLA)",
    "ella": "ELLA Timestep Conditioning",
}


def open_search(editor):
    """The search's input. A double click would be two clicks on a busy machine."""
    editor.page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    box = editor.page.locator("input[id^=comfy-vue-node-search-box-input]")
    box.wait_for(timeout=20_000)
    return box


def test_finds_the_nodes_among_the_first(editor):
    page, box = editor.page, open_search(editor)

    def search(words):
        box.fill(words)
        page.wait_for_timeout(1000)
        return page.locator(".option-display-name > div:first-child").all_inner_texts()

    for words, title in TITLES.items():
        found = search(words)
        assert any(text.startswith(title) for text in found[:9]), (words, found)
    assert not any("ELLA" in text for text in search("upscale"))
    page.keyboard.press("Escape")


def test_the_title_on_the_canvas_is_the_nodes_own(editor):
    page, box = editor.page, open_search(editor)
    box.fill("ELLALoadLLM")
    first = page.locator(".option-display-name").first
    first.filter(has_text="Load LLM (ELLA)").wait_for()
    box.press("Enter")
    page.wait_for_function("app.graph.nodes.length === 1")
    assert page.evaluate("app.graph.nodes[0].title") == "Load LLM (ELLA)"


def test_a_dropped_link_gets_no_deprecated_nodes_of_this_pack(editor):
    suggested = """() => [LiteGraph.slot_types_default_out, LiteGraph.slot_types_default_in]
      .flatMap((lists) => ["ELLA", "CONDITIONING"].flatMap((type) => lists[type]))"""
    found = editor.page.evaluate(suggested)
    assert {"ELLATimestepConditioning", "ELLAConditioning", "ELLALoad"} <= set(found)
    nodes = "names => names.map(name => LiteGraph.registered_node_types[name]?.nodeData)"
    assert not any(
        node and node["deprecated"] and node["category"].startswith("ELLA")
        for node in editor.page.evaluate(nodes, found)
    )
