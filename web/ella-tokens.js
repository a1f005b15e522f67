// Shows under a prompt, while it is being written, how many tokens its LLM makes of it.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { ask } from "./ella-prompt.js"
import { t } from "./ella-texts.js"

const NODE = "ELLATextEncode"
const TICK = 300 // ms; a prompt is counted once it has stayed the same for so long
const RETRY = 5000 // ms; what went wrong may have been mended by then
const HEIGHT = 30 // px, with MARGIN above and below
const MARGIN = 4
const REPORT = "$$node-text-preview" // ComfyUI's widget with the line that a node shows in a run

const STYLE = `
  .ella-tokens { box-sizing: border-box; contain: inline-size; padding: 0 7px; pointer-events: none;
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
    this.exact = undefined // the number on the line, if the run can only repeat it
    this.retry = Infinity // when to ask the same again
    this.busy = false
    this.height = undefined // of the node, before a run said anything on it
    this.grown = 0 // by how much it has grown for that
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

  show(line, { muted = false, over = false, share = 0, exact } = {}) {
    this.line.textContent = this.line.title = line
    this.exact = exact
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
    this.dropReport()
    if (!this.report()) this.height = this.node.size[1]
    const question = ask(this.node)
    const key = JSON.stringify(question)
    const settled = key === this.seen
    this.seen = key
    this.element.classList.toggle("stale", key !== this.shown)
    if (!settled || this.busy || (key === this.shown && Date.now() < this.retry)) return
    this.retry = Infinity
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
      answer = { error: t("not counted: <reason>", { reason: error.message }) }
    }
    if (key !== this.seen) return // the prompt has changed in the meantime
    // The next tick asks again.
    if (answer.pending) return this.show(t("counting …"), { muted: true })
    this.shown = key
    if (answer.error) {
      this.retry = Date.now() + RETRY
      this.show(answer.error, { muted: true })
    } else {
      const share = Math.min(1, answer.tokens / answer.limit)
      this.show(lineOf(answer), { over: answer.over, share, exact: answer.about ? undefined : answer.tokens })
    }
  }

  report() {
    return this.node.widgets.find((widget) => widget.name === REPORT)
  }

  // ComfyUI makes room for a line that the run says on the node, and does not take it back.
  noteGrowth() {
    if (this.grown || !this.report()) return
    this.grown = Math.max(0, this.node.size[1] - (this.height ?? this.node.size[1]))
  }

  // Takes away what a run has said on the node, with its room, if the line below says the same.
  dropReport() {
    const report = this.report()
    const said = /^([\d,]+) tokens?$/.exec(report?.value)
    if (!said || Number(said[1].replaceAll(",", "")) !== this.exact) return
    this.node.removeWidget(report)
    this.node.setSize([this.node.size[0], this.node.size[1] - this.grown])
    this.grown = 0
  }
}

// An answer of the server in words.
function lineOf({ tokens, limit, about, chunks, chunk_length, dropped, over, beyond, weighted }) {
  const n = about ? t("about <n>", { n: tokens }) : tokens
  const count = tokens === 1 ? t("<n> token", { n }) : t("<n> tokens", { n })
  const parts = [count]
  if (chunks > 1) {
    const values = { n, chunks, length: chunk_length }
    parts[0] = t("<n> tokens in <chunks> chunks of at most <length>", values)
  } else if (dropped) {
    const from = t("<n> cut off, from “<words>”", { n: dropped, words: beyond })
    parts.push(beyond ? from : t("<n> cut off", { n: dropped }))
  } else if (over) {
    const before = t("the trained <limit> end before “<words>”", { limit, words: beyond })
    parts.push(beyond ? before : t("the trained <limit> end", { limit }))
  } else {
    parts[0] = t("<n> of <limit> tokens", { n, limit })
  }
  if (weighted) parts.push(t("<n> weighted", { n: weighted }))
  return parts.join(" · ")
}

function onCanvas() {
  return (app.canvas?.graph?.nodes ?? []).map((node) => counters.get(node)).filter(Boolean)
}

app.registerExtension({
  name: "ELLA.Tokens",
  setup() {
    document.head.appendChild(document.createElement("style")).textContent = STYLE
    // A look now and then sees whatever changes the prompt, its node's inputs or the LLM.
    setInterval(() => onCanvas().forEach((counter) => counter.tick()), TICK)
    api.addEventListener("progress_text", () => {
      // After ComfyUI's own listener, before anything is drawn.
      queueMicrotask(() =>
        onCanvas().forEach((counter) => {
          counter.noteGrowth()
          counter.dropReport()
        }),
      )
    })
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) counters.set(node, new Counter(node))
  },
})
