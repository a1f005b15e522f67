// Shows under a prompt, while it is being written, how many tokens its LLM makes of it.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const NODE = "ELLATextEncode"
const TICK = 300 // ms; a prompt is counted once it has stayed the same for so long
const HEIGHT = 30 // px, with MARGIN above and below
const MARGIN = 4

const STYLE = `
  .ella-tokens { box-sizing: border-box; padding: 0 7px; pointer-events: none;
    font: 11px/15px Inter, Arial, sans-serif; color: var(--input-text); }
  .ella-tokens.muted { color: var(--descrip-text); }
  .ella-tokens.stale { opacity: 0.6; }
  .ella-tokens p { margin: 0; overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
    pointer-events: auto; }
  .ella-tokens div { height: 3px; margin-top: 2px; border-radius: 2px; overflow: hidden;
    background: color-mix(in srgb, currentColor 20%, transparent); }
  .ella-tokens span { display: block; height: 100%; width: 0; background: #3b9d6c;
    transition: width 0.15s; }
  .ella-tokens.over span { background: #d9822b; }
  .ella-tokens.muted div { visibility: hidden; }
`

const counters = new WeakMap() // node -> its Counter

class Counter {
  constructor(node) {
    this.node = node
    this.element = document.createElement("div")
    this.line = this.element.appendChild(document.createElement("p"))
    this.bar = this.element.appendChild(document.createElement("div"))
    this.bar.appendChild(document.createElement("span"))
    this.seen = undefined // what there was to count at the last tick, as JSON
    this.shown = undefined // what the line is about, as JSON
    this.busy = false
    this.widget = node.addDOMWidget("ella_tokens", "ella_tokens", this.element, {
      serialize: false, // not sent with the prompt
      margin: MARGIN,
      getValue: () => "",
      getMinHeight: () => HEIGHT,
      getMaxHeight: () => HEIGHT,
    })
    this.widget.serialize = false // and not saved in the workflow
    this.show("", { muted: true })
  }

  show(line, { muted = false, over = false, share = 0 } = {}) {
    this.line.textContent = this.line.title = line
    this.bar.firstChild.style.width = `${100 * share}%`
    this.element.className = `ella-tokens${muted ? " muted" : ""}${over ? " over" : ""}`
  }

  // Workflows hold widgets' values by position, so what other widgets come must stand before.
  stayLast() {
    const { widgets } = this.node
    if (widgets.at(-1) !== this.widget) {
      widgets.push(...widgets.splice(widgets.indexOf(this.widget), 1))
    }
  }

  tick() {
    this.stayLast()
    const question = ask(this.node)
    const key = JSON.stringify(question)
    const settled = key === this.seen
    this.seen = key
    this.element.classList.toggle("stale", key !== this.shown)
    if (!settled || key === this.shown || this.busy) return
    if (question.hint) {
      this.shown = key
      this.show(question.hint, { muted: true })
    } else {
      this.busy = true
      this.count(question, key).finally(() => (this.busy = false))
    }
  }

  async count(question, key) {
    const request = { method: "POST", body: key, headers: { "Content-Type": "application/json" } }
    let answer
    try {
      answer = await (await api.fetchApi("/ella/tokens", request)).json()
    } catch (error) {
      answer = { error: `not counted: ${error.message}` }
    }
    if (key !== this.seen) return // the prompt has changed in the meantime
    if (answer.pending) return this.show("counting …", { muted: true }) // the next tick asks again
    this.shown = key
    if (answer.error) this.show(answer.error, { muted: true })
    else this.show(answer.line, { over: answer.over, share: Math.min(1, answer.tokens / answer.limit) })
  }
}

// What is to be counted, or a hint why that is not known before the run.
function ask(node) {
  const linked = ["text", "max_length", "long_prompt"].find((name) => origin(node, name))
  if (linked) return { hint: `${linked} comes from another node: counted in the run` }
  const llm_name = llmName(node)
  if (!llm_name) return { hint: "connect Load LLM (ELLA) to count tokens" }
  const [text, max_length, long_prompt] = ["text", "max_length", "long_prompt"].map((name) => valueOf(node, name))
  return { llm_name, text, max_length, long_prompt }
}

function valueOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)?.value
}

// The node and the output that feed an input; from within a subgraph also one around it.
function origin(node, name) {
  const input = node.inputs?.find((input) => input.name === name)
  const link = node.graph?.getLink(input?.link)
  if (!link) return null
  if (link.originIsIoNode) {
    const outer = subgraphNodes(app.graph).find((outer) => outer.subgraph === node.graph)
    return outer ? origin(outer, outer.inputs[link.origin_slot]?.name) : null
  }
  return { node: node.graph.getNodeById(link.origin_id), slot: link.origin_slot }
}

function subgraphNodes(graph) {
  const here = graph.nodes.filter((node) => node.subgraph)
  return [...here, ...here.flatMap((node) => subgraphNodes(node.subgraph))]
}

// The LLM that is connected, through reroutes and subgraphs.
function llmName(node) {
  let from = origin(node, "llm")
  while (from?.node && valueOf(from.node, "llm_name") === undefined) {
    const { node, slot } = from
    if (node.subgraph) {
      const inner = node.subgraph.outputNode.slots[slot]?.getLinks()[0]
      from = inner && { node: node.subgraph.getNodeById(inner.origin_id), slot: inner.origin_slot }
    } else {
      from = node.isVirtualNode && node.inputs?.length ? origin(node, node.inputs[0].name) : null
    }
  }
  return from?.node ? valueOf(from.node, "llm_name") : undefined
}

app.registerExtension({
  name: "ELLA.Tokens",
  setup() {
    document.head.appendChild(document.createElement("style")).textContent = STYLE
    // A look now and then sees whatever changes the prompt, its node's inputs or the LLM.
    setInterval(() => {
      for (const node of app.canvas?.graph?.nodes ?? []) counters.get(node)?.tick()
    }, TICK)
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) counters.set(node, new Counter(node))
  },
})
