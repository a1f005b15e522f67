"""The template of ELLA Attention Map runs in the editor and shows a heat map."""

from support.workflows import WORKFLOWS, small

(TEMPLATE,) = (path for path in WORKFLOWS if path.stem == "ella-attention-map")


def test_shows_a_heat_map(editor, host):
    editor.load(small(host, TEMPLATE))
    run = editor.run()
    assert run.error is None
    pictures = [out["images"][0]["filename"] for out in run.outputs.values() if "images" in out]
    assert any(name.startswith("ELLA-attention") for name in pictures)
    map_ = "app.graph.nodes.find(n => n.widgets?.some(w => w.value === 'ELLA-attention'))"
    editor.page.wait_for_function(f"{map_}.imgs?.[0]?.naturalWidth > 500")
