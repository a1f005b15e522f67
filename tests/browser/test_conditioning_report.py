"""Reports on ELLA Timestep Conditioning after a run, in ComfyUI's own editor."""

import pytest

from support.prompts import report, say, small_workflow

NODE = "app.graph.nodes.find((node) => node.type === 'ELLATimestepConditioning')"
PROMPTS = [{"name": "positive", "tokens": [61]}, {"name": "negative", "tokens": [1]}]
SAID = {"kind": "connector", "passes": 12, "timesteps": 25, "milliseconds": 11_750}
REPORT = "positive 61, negative 1 tokens\nconnector: 12 passes for 25 timesteps, 11.75 s"

# For each word of what the element says: its own rectangles, more than one where it is broken.
WORDS = """element => {
  const found = []
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT)
  for (let text; (text = walker.nextNode()); )
    for (const { 0: word, index } of text.data.matchAll(/\\S+/g)) {
      const range = document.createRange()
      range.setStart(text, index)
      range.setEnd(text, index + word.length)
      const tops = [...range.getClientRects()].map((rect) => [rect.top, rect.bottom])
      found.push([word, tops])
    }
  return found
}"""


@pytest.fixture
def shown(editor, renderer):
    """Shows a report on the workflow's node of that width; returns its element and box."""

    def show(width):
        page = editor.page
        page.evaluate("app.canvas.ds.scale = 1")
        page.evaluate(f"width => {NODE}.setSize([width, {NODE}.computeSize()[1]])", width)
        say(editor, page.evaluate(f"{NODE}.id"), prompts=PROMPTS, **SAID)
        page.wait_for_timeout(500)
        if renderer == "vue":
            root = page.locator(f"[data-node-id='{page.evaluate(f'{NODE}.id')}']")
            return root.locator(".ella-report p"), root.bounding_box()
        page.evaluate("app.canvas.draw(true, true)")
        x, y, w, h = page.evaluate(
            f"""() => {{
              const [[x, y], [w, h]] = [{NODE}.pos, {NODE}.size]
              return [...app.canvas.ds.convertOffsetToCanvas([x, y]), w, h]
            }}"""
        )
        top = page.evaluate("app.canvas.canvas.getBoundingClientRect().top")
        return page.locator(".ella-report p"), {"x": x, "y": y + top, "width": w, "height": h}

    editor.load(small_workflow())
    return show


def new_width(editor):
    return editor.page.evaluate("LiteGraph.createNode('ELLATimestepConditioning').size[0]")


def test_the_report_fits_into_a_new_node(editor, shown):
    element, box = shown(new_width(editor))
    words = element.evaluate(WORDS)
    assert [word for word, _ in words] == REPORT.split()
    assert all(len(tops) == 1 for _, tops in words)
    assert len({top for _, [[top, _]] in words}) == 2  # lines
    assert max(bottom for _, [[_, bottom]] in words) <= box["y"] + box["height"]


def test_a_narrow_node_grows_and_its_lines_are_broken_between_words(shown):
    element, box = shown(216)
    words = element.evaluate(WORDS)
    assert [word for word, _ in words] == REPORT.split()
    assert all(len(tops) == 1 for _, tops in words)
    assert max(bottom for _, [[_, bottom]] in words) <= box["y"] + box["height"]


def test_a_note_on_a_node_of_comfyuis_goes_with_the_next_run(editor):
    editor.load(small_workflow())
    sampler = "app.graph.nodes.find((node) => node.type === 'KSampler')"
    saved = editor.serialize()
    node_id = editor.page.evaluate(f"{sampler}.id")
    say(editor, node_id, prompts=PROMPTS, **SAID)  # about a node of another workflow
    assert report(editor, sampler) is None
    say(editor, node_id, kind="frozen", text="in English")
    assert "stays at one timestep" in report(editor, sampler)
    noted = editor.serialize()
    assert [n["widgets_values"] for n in noted["nodes"] if n["type"] == "KSampler"] == [
        n["widgets_values"] for n in saved["nodes"] if n["type"] == "KSampler"
    ]
    editor.page.evaluate("app.api.dispatchCustomEvent('execution_start', {})")
    assert report(editor, sampler) is None


def test_a_new_node_has_room_for_its_title(editor, renderer):
    editor.page.evaluate(
        """() => {
          window.made = LiteGraph.createNode("ELLATimestepConditioning")
          app.graph.add(made)
        }"""
    )
    if renderer == "vue":
        title = editor.page.get_by_test_id("node-title").locator(".truncate")
        title.wait_for()
        assert title.evaluate("e => e.scrollWidth <= e.clientWidth")
        return
    width, text = editor.page.evaluate(
        """() => {
          const context = document.createElement("canvas").getContext("2d")
          context.font = made.titleFontStyle
          return [made.size[0], context.measureText(made.title).width]
        }"""
    )
    assert width > text + 60  # its corner and the badge's side


def test_a_node_of_a_workflow_keeps_its_width(editor):
    workflow = small_workflow()
    saved = next(n for n in workflow["nodes"] if n["type"] == "ELLATimestepConditioning")
    saved["size"][0] = 230
    editor.load(workflow)
    assert editor.page.evaluate(f"{NODE}.size[0]") == 230
    assert report(editor, NODE) is None
