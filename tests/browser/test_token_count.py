"""The token count under a prompt, in ComfyUI's own editor."""

import pytest
from safetensors.torch import load_file, save_file

from editor import Editor
from support.host import T5
from support.prompts import LINE, LLAMA, follow_reports, prompt_node, said, small_workflow, tokens
from tiny_models import write_t5

TEXT = "A (red:1.3) cat sits on a blue chair, and it does not look at us."

BUILD = """() => {
  const add = (type) => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node
  }
  const [llm, reroute] = [add("ELLALoadLLM"), add("Reroute")]
  const [linked, rerouted, alone] = [1, 2, 3].map(() => add("ELLALLMTextEncode"))
  llm.connect(0, linked, 0)
  llm.connect(0, reroute, 0)
  reroute.connect(0, rerouted, 0)
  window.built = { llm, linked, rerouted, alone }
}"""


def wait_for(editor, node, line):
    """Until the node, named by a JavaScript expression, shows that line about its present text."""
    editor.page.wait_for_function(
        f"""line => {{
          const element = ({LINE})({node})
          return element.innerText === line && !element.classList.contains("stale")
        }}""",
        arg=line,
    )


def test_counts_while_one_types_what_the_run_reports(editor, host, renderer):
    workflow = small_workflow()
    editor.load(workflow)
    prompt = prompt_node(workflow)
    node = f"app.graph.getNodeById({prompt['id']})"
    vue = f"[data-node-id='{prompt['id']}'] "
    textarea = editor.page.locator(
        f"{vue}textarea" if renderer == "vue" else "textarea.comfy-multiline-input"
    ).nth(0)
    textarea.fill("")
    wait_for(editor, node, "1 of 128 tokens")
    text = f"{TEXT} In {renderer}."  # not read in an earlier run
    textarea.press_sequentially(text)
    n = tokens(host, T5, text.replace("(red:1.3)", "red"))
    wait_for(editor, node, f"{n} of 128 tokens · 1 weighted")
    if renderer == "vue":
        assert editor.page.locator(f"{vue}.ella-tokens").is_visible()
    follow_reports(editor)
    assert editor.run().error is None
    read = said(editor, prompt["id"])[-1]
    assert (read["tokens"], read["weighted"]) == (n, 1)
    textarea.fill(f"{TEXT} " * 20)
    editor.page.wait_for_function(f"({LINE})({node}).classList.contains('over')")
    assert "the trained 128 end before “" in editor.page.evaluate(f"({LINE})({node}).innerText")


def test_follows_the_llm_and_its_settings(editor, host):
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    for name in ("linked", "rerouted", "alone"):
        editor.page.evaluate(f"built.{name}.widgets[0].value = 'A red cat.'")
    for name in ("linked", "rerouted"):
        wait_for(editor, f"built.{name}", f"{tokens(host, T5, 'A red cat.')} of 128 tokens")
    wait_for(editor, "built.alone", "connect Load LLM (ELLA) to count tokens")
    editor.page.evaluate(f"built.llm.widgets[0].value = '{LLAMA}'")
    n = tokens(host, LLAMA, "A red cat.")
    for name in ("linked", "rerouted"):
        wait_for(editor, f"built.{name}", f"{n} of 128 tokens")
    editor.page.evaluate("built.linked.widgets[1].value = 8")
    wait_for(editor, "built.linked", f"8 tokens · {n - 8} cut off, from “at.”")
    editor.page.evaluate("built.linked.widgets[2].value = 'chunk'")
    wait_for(editor, "built.linked", "12 tokens in 2 chunks of at most 8")


FOR_CONNECTOR = """() => {
  const types = ["ELLALoad", "ELLAConditioning", "ELLABlendEmbeds", "Reroute"]
  const nodes = types.map((type) => LiteGraph.createNode(type))
  for (const node of nodes) app.graph.add(node)
  const [loader, conditioning, blend, reroute] = nodes
  built.linked.connect(0, blend, 0)
  blend.connect(0, reroute, 0)
  reroute.connect(0, conditioning, 1)
  loader.connect(0, conditioning, 0)
  loader.widgets[0].value = "trained on 256.safetensors"
  Object.assign(built, { loader, conditioning })
}"""
INTO_SUBGRAPH = """names => {
  const chosen = new Set(names.map((name) => built[name]))
  const { subgraph } = app.graph.convertToSubgraph(chosen)
  built.inner = subgraph.nodes.find((node) => node.type === "ELLALLMTextEncode")
}"""


def test_counts_up_to_what_the_connector_was_trained_on(editor, host):
    folder = host.models / "ella"
    tensors = load_file(folder / "tsc.safetensors")
    save_file(tensors, folder / "trained on 256.safetensors", metadata={"trained_tokens": "256"})
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    editor.page.evaluate("built.linked.widgets[0].value = 'A red cat.'")
    n = tokens(host, T5, "A red cat.")
    wait_for(editor, "built.linked", f"{n} of 128 tokens")
    editor.page.evaluate(FOR_CONNECTOR)
    wait_for(editor, "built.linked", f"{n} of 256 tokens")
    # The conditioning goes into a subgraph, then the prompt into another.
    editor.page.evaluate(INTO_SUBGRAPH, ["loader", "conditioning"])
    editor.page.evaluate("built.linked.widgets[0].value = 'A red ca'")
    wait_for(editor, "built.linked", f"{tokens(host, T5, 'A red ca')} of 256 tokens")
    editor.page.evaluate(INTO_SUBGRAPH, ["linked"])
    editor.page.evaluate("app.canvas.setGraph(built.inner.graph)")
    wait_for(editor, "built.inner", f"{tokens(host, T5, 'A red ca')} of 256 tokens")
    editor.page.evaluate("app.canvas.setGraph(app.graph)")


TEMPLATE = """() => {
  const template = LiteGraph.createNode("ELLAPromptTemplate")
  app.graph.add(template)
  built.llm.connect(0, template, 0)
  template.connect(0, built.linked, 0)
  Object.assign(built, { template })
}"""
SET = """([node, name, value]) => {
  built[node].widgets.find((widget) => widget.name === name).value = value
}"""


def test_the_words_within_a_template(editor, host):
    """The LLM has a token for each letter, and one in front of a text."""
    editor.page.evaluate(BUILD)
    editor.page.evaluate(TEMPLATE)
    text = "A red cat."
    for changed in (["llm", "llm_name", LLAMA], ["linked", "text", text]):
        editor.page.evaluate(SET, changed)
    none = "The connector reads prompts through the LLM's chat template, and this LLM's tokenizer"
    line = f"({LINE})(built.linked).innerText"
    editor.page.wait_for_function(f"start => {line}.startsWith(start)", arg=none)
    editor.page.evaluate(SET, ["template", "template", "Paint: %prompt%!"])
    left = 128 - len("!")
    wait_for(editor, "built.linked", f"{len(text)} of {left} tokens")
    editor.page.evaluate(SET, ["template", "skip_tokens", 0])
    wait_for(editor, "built.linked", f"{len(text)} of {left - len('Paint: ') - 1} tokens")
    editor.page.evaluate(SET, ["template", "template", "Paint: it!"])
    wrong = "The template of ELLA Prompt Template has %prompt% 0 times"
    editor.page.wait_for_function(f"start => {line}.startsWith(start)", arg=wrong)
    editor.page.evaluate(SET, ["template", "template", "%prompt%!"])
    wait_for(editor, "built.linked", f"{len(text)} of {left - 1} tokens")
    editor.page.evaluate("built.template.mode = 4")  # bypassed: the run has no template
    wait_for(editor, "built.linked", f"{tokens(host, LLAMA, text)} of 128 tokens")
    editor.page.evaluate("built.template.mode = 0")
    # The template goes into a subgraph.
    editor.page.evaluate(INTO_SUBGRAPH, ["template"])
    editor.page.evaluate(SET, ["linked", "text", text[:-1]])
    wait_for(editor, "built.linked", f"{len(text) - 1} of {left - 1} tokens")
    editor.errors.clear()  # the browser itself notes every answer that is an error


def test_asks_again_after_an_error(editor, host):
    asked = []
    editor.page.on("request", lambda r: asked.append(r) if r.url.endswith("/ella/tokens") else None)
    editor.page.route("**/ella/tokens", lambda route: route.abort())
    editor.page.evaluate(BUILD)
    editor.page.evaluate("built.llm.widgets[0].value = 'comes later'")
    editor.page.evaluate("built.linked.widgets[0].value = 'A red cat.'")
    wait_for(editor, "built.linked", "not counted: Failed to fetch")
    editor.page.unroute("**/ella/tokens")
    wait_for(editor, "built.linked", "LLM missing: download ...")
    title = editor.page.evaluate(f"({LINE})(built.linked).querySelector('p').title")
    assert title.startswith("The LLM 'comes later' was not found. Choose ELLA > Download")
    width = "p => [p.scrollWidth, p.clientWidth]"
    needs, has = editor.page.evaluate(f"({width})(({LINE})(built.linked).querySelector('p'))")
    assert needs <= has
    before = len(asked)
    editor.page.wait_for_timeout(3000)
    assert len(asked) <= before + 1  # not at every tick, of which there were several
    write_t5(host.models / "LLM/comes later")
    expected = tokens(host, "comes later", "A red cat.")
    wait_for(editor, "built.linked", f"{expected} of 128 tokens")
    editor.errors.clear()  # the browser itself notes every answer that is an error


PRIMITIVE = """type => {
  const source = LiteGraph.createNode(type)
  app.graph.add(source)
  source.connect(0, built.linked, built.linked.inputs.findIndex(({ name }) => name === "text"))
  source.widgets[0].value = "A red cat."
  built.source = source
}"""


@pytest.mark.parametrize("type_", ["PrimitiveString", "PrimitiveStringMultiline", "PrimitiveNode"])
def test_a_text_from_a_primitive_node(editor, host, type_):
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    editor.page.evaluate(PRIMITIVE, type_)
    wait_for(editor, "built.linked", f"{tokens(host, T5, 'A red cat.')} of 128 tokens")
    editor.page.evaluate("built.source.widgets[0].value = 'A red cat and a dog.'")
    wait_for(editor, "built.linked", f"{tokens(host, T5, 'A red cat and a dog.')} of 128 tokens")
    run = [node for node in editor.api_form().values() if node["class_type"] == "ELLALLMTextEncode"]
    (text,) = [r["inputs"]["text"] for r in run if "llm" in r["inputs"] and r["inputs"]["text"]][:1]
    values = {"PrimitiveNode": text}
    for node in editor.api_form().values():
        values[node["class_type"]] = values.get(node["class_type"], node["inputs"].get("value"))
    assert values[type_] == "A red cat and a dog."


def test_a_text_that_another_node_makes(editor):
    editor.page.evaluate(BUILD)
    editor.page.evaluate(
        PRIMITIVE.replace('source.widgets[0].value = "A red cat."', ""), "StringConcatenate"
    )
    wait_for(editor, "built.linked", "text comes from another node: counted in the run")


CHOSEN_ELSEWHERE = """virtual => {
  class Chooser extends LGraphNode {
    constructor() {
      super("Chooser")
      this.isVirtualNode = virtual
      this.addOutput("llm", "ELLA_LLM")
    }
  }
  LiteGraph.registerNodeType("Chooser", Chooser)
  const chooser = LiteGraph.createNode("Chooser")
  app.graph.add(chooser)
  chooser.connect(0, built.linked, 0)
}"""


@pytest.mark.parametrize("virtual", [False, True])
def test_an_llm_that_another_node_chooses(editor, virtual):
    """A switch does so, and the virtual Get of Set and Get nodes."""
    editor.page.evaluate(BUILD)
    editor.page.evaluate(CHOSEN_ELSEWHERE, virtual)
    wait_for(editor, "built.linked", "the LLM is chosen by another node: counted in the run")


PROMOTE = """([inner, ...names]) => {
  const { subgraph, node } = app.graph.convertToSubgraph(new Set([built[inner]]))
  for (const name of names) {
    const input = subgraph.nodes[0].inputs.find((input) => input.name === name)
    subgraph.addInput(name, input.type).connect(input, subgraph.nodes[0])
  }
  return (built[`${inner} outside`] = node).id
}"""


def test_promoted_widgets(editor, host):
    """Their values on the subgraph's node are what the run gets."""
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    editor.page.evaluate(PROMOTE, ["llm", "llm_name"])
    editor.page.evaluate(PROMOTE, ["linked", "text", "max_length"])
    editor.page.evaluate(f"built['llm outside'].subgraph.nodes[0].widgets[0].value = '{LLAMA}'")
    n = tokens(host, T5, "A red cat.")
    outside = "built['linked outside']"
    editor.page.evaluate(f"{outside}.widgets.find(w => w.name === 'text').value = 'A red cat.'")
    editor.page.evaluate(f"{outside}.widgets.find(w => w.name === 'max_length').value = {n + 2}")
    run = [node for node in editor.api_form().values() if "text" in node["inputs"]]
    assert ("A red cat.", n + 2) in [(r["inputs"]["text"], r["inputs"]["max_length"]) for r in run]
    names = [r["inputs"].get("llm_name") for r in editor.api_form().values()]
    assert T5 in names
    assert LLAMA not in names
    inner = f"{outside}.subgraph.nodes[0]"
    editor.page.evaluate(f"app.canvas.setGraph({outside}.subgraph)")
    wait_for(editor, inner, f"{n} of {n + 2} tokens")
    another = f"""value => {{
      if (!built.another) {{
        built.another = LiteGraph.createNode({outside}.type)
        app.graph.add(built.another)
        built["llm outside"].connect(0, built.another, 0)
      }}
      const changes = {{ text: "A red cat.", max_length: value }}
      for (const [name, changed] of Object.entries(changes))
        built.another.widgets.find(w => w.name === name).value = changed
    }}"""
    editor.page.evaluate(another, n + 3)
    hint = "max_length differs between uses of this subgraph: counted in the run"
    wait_for(editor, inner, hint)
    editor.page.evaluate(another, n + 2)
    wait_for(editor, inner, f"{n} of {n + 2} tokens")
    editor.page.evaluate("app.canvas.setGraph(app.graph)")


def test_across_subgraphs(editor, host):
    editor.page.evaluate(BUILD)
    editor.page.evaluate(f"built.llm.widgets[0].value = '{T5}'")
    inside = """name => {
      const { subgraph } = app.graph.convertToSubgraph(new Set([built[name]]))
      built.inner = subgraph.nodes[0]
      app.canvas.setGraph(subgraph)
    }"""
    editor.page.evaluate(inside, "linked")
    editor.page.evaluate("built.inner.widgets[0].value = 'A red cat.'")
    wait_for(editor, "built.inner", f"{tokens(host, T5, 'A red cat.')} of 128 tokens")
    editor.page.evaluate("app.canvas.setGraph(app.graph)")
    editor.page.evaluate(inside, "llm")
    editor.page.evaluate("app.canvas.setGraph(app.graph)")
    editor.page.evaluate("built.rerouted.widgets[0].value = 'A red cat'")
    wait_for(editor, "built.rerouted", f"{tokens(host, T5, 'A red cat')} of 128 tokens")


def saved(editor):
    """Return the workflow as the editor saves it, without parts that differ at each opening."""
    workflow = editor.serialize()
    workflow.pop("id")
    workflow["extra"].pop("ds", None)
    return workflow


@pytest.fixture
def without(browser, host):
    """The editor without the count."""
    editor = Editor(browser, host.server)
    empty = {"content_type": "text/javascript", "body": ""}
    editor.page.route("**/ella-tokens.js", lambda route: route.fulfill(**empty))
    editor.page.reload()
    editor.page.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow")
    editor.clear()
    yield editor
    editor.page.close()


def test_the_saved_workflow_is_the_same_without_it(editor, without):
    workflow, found = small_workflow(), {}
    node = f"app.graph.getNodeById({prompt_node(workflow)['id']})"
    for key, each in (("with", editor), ("without", without)):
        each.load(workflow)
        shown = each.page.evaluate(f"{node}.widgets.map(w => w.name)")
        assert ("ella_tokens" in shown) == (key == "with")
        each.page.evaluate(f"{node}.clone().serialize()")
        found[key] = [saved(each), each.api_form()]
        created = "[...LiteGraph.createNode('ELLALLMTextEncode').size]"
        found[key].append(each.page.evaluate(created))
        each.page.evaluate(f"{node}.widgets[0].value = 'A red cat {key} a hat.'")
        assert each.run().error is None
        found[key].append(prompt_node(each.serialize())["widgets_values"][1:])
    assert found["with"] == found["without"]
