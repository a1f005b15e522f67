// Shows under a prompt, while it is being written, how many tokens its LLM makes of it.
//
// What a run says on the node is shown there too: a widget of ComfyUI's own for that would take its
// room from the text.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { ask } from "./ella-prompt.js"
import { readReports } from "./ella-report.js"
import { t } from "./ella-texts.js"

const NODE = "ELLALLMTextEncode"
const TICK = 300 // ms; a prompt is counted once it has stayed the same for so long
const RETRY = 5000 // ms; what went wrong may have been mended by then
const HEIGHT = 30 // px, with MARGIN above and below
const MARGIN = 4
const REPORT = "$$node-text-preview" // ComfyUI's widget for what a run says on a node
const RESULT = /^[\d,]+ tokens?\b/ // what a run says in the end; before that it tells its progress

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
const talking = new Set() // Counters that show what a run is saying

class Counter {
  constructor(node) {
    this.node = node
    this.element = document.createElement("div")
    this.element.className = "ella-tokens"
    this.line = this.element.appendChild(document.createElement("p"))
    this.bar = this.element.appendChild(document.createElement("div"))
    this.bar.appendChild(document.createElement("span"))
    this.seen = undefined // what there was to count at the last tick, as JSON
    this.shown = undefined // what the line is about, as JSON
    this.found = undefined // what is known without a run: see `show`
    this.progress = undefined // what a run is saying
    this.result = undefined // what the last run has said about it
    this.heard = undefined // what there was to count then, as JSON
    this.size = undefined // of the node, at the last tick
    this.retry = Infinity // when to ask the same again
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

  // `exact`: a run can only repeat it.
  show(line, { title = line, muted = false, over = false, share = 0, exact = false } = {}) {
    this.found = { line, title, muted, over, share, exact }
    this.draw()
  }

  draw() {
    const { line, title, muted, over, share, exact } = this.found
    const lastRun = this.result && t("last run: <report>", { report: this.result })
    this.line.textContent = this.progress ?? (exact ? line : (lastRun ?? line))
    this.line.title = [this.progress, title, lastRun].filter(Boolean).join("\n")
    this.bar.firstChild.style.width = `${100 * share}%`
    this.element.classList.toggle("muted", muted)
    this.element.classList.toggle("over", over)
  }

  hear(text) {
    this.dropReport()
    const done = RESULT.test(text)
    this.progress = done ? undefined : text
    this.result = done ? text : undefined
    this.heard = JSON.stringify(ask(this.node))
    talking[done ? "delete" : "add"](this)
    this.draw()
  }

  // Before it is drawn. The node has grown for it and would not shrink again.
  dropReport() {
    const report = this.node.widgets.find((widget) => widget.name === REPORT)
    if (!report) return
    this.node.removeWidget(report)
    this.node.setSize(this.size)
  }

  // A run that broke off leaves no result.
  endOfRun() {
    this.progress = undefined
    this.draw()
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
    this.size = [...this.node.size]
    const question = ask(this.node)
    const key = JSON.stringify(question)
    const settled = key === this.seen
    if (this.result && key !== this.heard) {
      this.result = undefined
      this.draw()
    }
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
      const line = answer.missing
        ? t("LLM missing: menu ELLA > Download ELLA models ...")
        : answer.error
      this.show(line, { title: answer.error, muted: true })
    } else {
      const share = Math.min(1, answer.tokens / answer.limit)
      this.show(lineOf(answer), { over: answer.over, share, exact: !answer.about })
    }
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
    api.addEventListener("executing", ({ detail }) => {
      if (detail !== null) return // a node; null is the end
      talking.forEach((counter) => counter.endOfRun())
      talking.clear()
    })
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const counter = new Counter(node)
    counters.set(node, counter)
    readReports(node, (text) => counter.hear(text))
  },
})
