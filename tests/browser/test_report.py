"""What a prompt's node shows of a run, in ComfyUI's own editor."""

from support.host import T5
from support.prompts import LINE, REPORT, prompt_node, report, small_workflow, tokens


def test_the_run_does_not_repeat_the_count(editor, host, renderer):
    workflow = small_workflow()
    editor.load(workflow)
    node = f"app.graph.getNodeById({prompt_node(workflow)['id']})"
    for text, exact, said in (
        (f"A red cat, {renderer}.", True, None),
        (f"A (red:1.2) cat, {renderer}.", True, "; 1 of them weighted"),
        (f"A {{red|red}} cat, {renderer}.", False, ""),
    ):
        editor.page.evaluate(f"text => {{ {node}.widgets[0].value = text }}", text)
        n = tokens(host, T5, f"A red cat, {renderer}.")
        editor.page.wait_for_function(
            f"""start => {{
              const element = ({LINE})({node})
              return element.innerText.startsWith(start) && !element.matches(".stale, .muted")
            }}""",
            arg=f"{n} of 128" if exact else "about ",
        )
        assert editor.run().error is None
        assert report(editor, node) == (None if said is None else f"{n} tokens{said}")


def test_a_run_that_ends_before_the_count_is_not_repeated_either(editor, host):
    workflow = small_workflow()
    node = f"app.graph.getNodeById({prompt_node(workflow)['id']})"
    editor.page.route("**/ella/tokens", lambda route: None)  # held until it is taken away
    editor.load(workflow)
    editor.page.evaluate(f"{node}.widgets[0].value = 'A cat that is quick.'")
    assert editor.run().error is None
    assert report(editor, node) == f"{tokens(host, T5, 'A cat that is quick.')} tokens"
    editor.page.unroute("**/ella/tokens")
    editor.page.wait_for_function(f"!{node}.widgets.some(w => w.name === '{REPORT}')")


def test_a_node_is_no_taller_after_a_run_than_before(editor, host):
    workflow = small_workflow()
    prompt = prompt_node(workflow)
    prompt["size"][1] = 170  # no room to spare
    node = f"app.graph.getNodeById({prompt['id']})"
    editor.load(workflow)

    def run(text):
        editor.page.evaluate(f"text => {{ {node}.widgets[0].value = text }}", text)
        editor.page.wait_for_timeout(1000)
        editor.wait_for_token_counts()
        assert editor.run().error is None
        return editor.page.evaluate(f"{node}.size[1]")

    assert run("A cat, tall or short.") == 170
    taller = run("A (cat:1.2), tall or short.")  # what the run says stays
    assert taller > 170
    assert editor.page.evaluate(f"{node}.setSize([{node}.size[0], {taller} + 200])") is None
    assert run("A dog, tall or short.") == 170 + 200  # what the user has added is kept
