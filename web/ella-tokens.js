// Shows under a prompt, while it is being written, how many tokens its LLM makes of it.
//
// A run's reports on the node are shown in the same line.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { openDialog } from "./ella-download.js"
import { ask, promptLabel, PROMPTS } from "./ella-prompt.js"
import { readReports } from "./ella-report.js"
import { t } from "./ella-texts.js"
import { unread } from "./ella-unread.js"
import { countWords, reportWords } from "./ella-words.js"

const KINDS = new Set(["loading", "reading", "prompt"]) // reports that the line shows
const TICK = 300 // ms; a prompt is counted once it has not changed for this long
const RETRY = 5000 // ms after an error
const HEIGHT = 30 // px, with one line, and MARGIN above and below
const LINE = 15 // px
const MARGIN = 4

const STYLE = `
  .ella-tokens { box-sizing: border-box; contain: inline-size; padding: 0 7px; pointer-events: none;
    font: 11px/${LINE}px Inter, Arial, sans-serif; color: var(--input-text); }
  .ella-tokens.muted { color: var(--descrip-text); }
  .ella-tokens.stale { opacity: 0.6; }
  .ella-tokens p { margin: 0; overflow: hidden; white-space: pre; text-overflow: ellipsis;
    pointer-events: auto; }
  .ella-tokens [role=button] { cursor: pointer; text-decoration: underline; }
  .ella-tokens div { height: 3px; margin-top: 2px; border-radius: 2px; overflow: hidden;
    background: color-mix(in srgb, currentColor 20%, transparent); }
  .ella-tokens span { display: block; height: 100%; width: 0; background: #3b9d6c;
    transition: width 0.15s; }
  .ella-tokens.over span { background: #d9822b; }
  .ella-tokens.muted div { visibility: hidden; }
`

const counters = new WeakMap() // node -> its Counter
const talking = new Set() // Counters that show a run's progress

class Counter {
  constructor(node) {
    this.node = node
    this.element = document.createElement("div")
    this.element.className = "ella-tokens"
    this.line = this.element.appendChild(document.createElement("p"))
    this.bar = this.element.appendChild(document.createElement("div"))
    this.bar.appendChild(document.createElement("span"))
    this.seen = undefined // the question at the last tick, as JSON
    this.shown = undefined // the question that the line answers, as JSON
    this.found = undefined // the count without a run; see `show`
    this.progress = undefined // of the current run, in words
    this.result = undefined // of the last run, in words
    this.heard = undefined // the question during that run, as JSON
    this.retry = Infinity // when to ask the same again
    this.busy = false
    this.lines = 1
    const height = () => HEIGHT + LINE * (this.lines - 1)
    this.widget = node.addDOMWidget("ella_tokens", "ella_tokens", this.element, {
      serialize: false, // not sent with the prompt
      margin: MARGIN,
      getValue: () => "",
      getMinHeight: height,
      getMaxHeight: height,
    })
    this.widget.serialize = false // and not saved in the workflow
    this.show("", { muted: true })
  }

  // `exact`: a run would find the same. `action`: what a click on the line does.
  show(line, { title = line, muted = false, over = false, share = 0, exact = false, action } = {}) {
    this.found = { line, title, muted, over, share, exact, action }
    this.draw()
  }

  draw() {
    const { line, title, muted, over, share, exact, action } = this.found
    const lastRun = this.result && t("last run: <report>", { report: this.result })
    this.line.textContent = this.progress ?? (exact ? line : (lastRun ?? line))
    this.makeRoom()
    const acts = action && this.line.textContent === line
    this.line.onclick = acts ? action : null
    this.line.onkeydown = acts ? ({ key }) => key === "Enter" && action() : null
    this.line[acts ? "setAttribute" : "removeAttribute"]("role", "button")
    this.line.tabIndex = acts ? 0 : -1
    this.line.title = [this.progress, title, lastRun].filter(Boolean).join("\n")
    this.bar.firstChild.style.width = `${100 * share}%`
    this.element.classList.toggle("muted", muted)
    this.element.classList.toggle("over", over)
  }

  makeRoom() {
    const lines = this.line.textContent.split("\n").length
    if (lines === this.lines) return
    this.lines = lines
    const { node } = this
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
    node.setDirtyCanvas(true, true)
  }

  hear(report) {
    const done = report.kind === "prompt" // before that it tells its progress
    const question = ask(this.node)
    // The editor has drawn from {a|b}, or another node has written it.
    const drawn = done && report.read !== undefined && report.read !== question.text
    // In one line: the node would make room for more and keep it.
    const read = drawn ? [`“${report.read.replace(/\s+/g, " ")}”`] : []
    const text = [reportWords(report), ...read].join(" · ")
    this.progress = done ? undefined : text
    this.result = done ? text : undefined
    this.heard = JSON.stringify(question)
    talking[done ? "delete" : "add"](this)
    this.draw()
  }

  // A run that broke off leaves no result.
  endOfRun() {
    this.progress = undefined
    this.draw()
  }

  // Workflows store widget values by position, so this widget must come after all others.
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
      const line = answer.missing ? t("LLM missing: download ...") : answer.error
      const names = [question.llm_name, question.ella_name].filter(Boolean)
      const action = answer.missing ? () => openDialog(names) : undefined
      this.show(line, { title: answer.error, muted: true, action })
    } else {
      const share = Math.min(1, answer.tokens / answer.limit)
      const input = promptLabel(this.node)
      const count = countWords(answer)
      const counted = input ? t("<input>: <count>", { input, count }) : count
      const line = [...unread(question.text), counted].join("\n")
      this.show(line, { over: answer.over, share, exact: !answer.about })
    }
  }
}

function onCanvas() {
  return (app.canvas?.graph?.nodes ?? []).map((node) => counters.get(node)).filter(Boolean)
}

app.registerExtension({
  name: "ELLA.Tokens",
  setup() {
    document.head.appendChild(document.createElement("style")).textContent = STYLE
    // Polling notices any change of the prompt, the node's inputs or the LLM.
    setInterval(() => onCanvas().forEach((counter) => counter.tick()), TICK)
    api.addEventListener("executing", ({ detail }) => {
      if (detail !== null) return // a node; null is the end
      talking.forEach((counter) => counter.endOfRun())
      talking.clear()
    })
  },
  nodeCreated(node) {
    if (!(node.comfyClass in PROMPTS)) return
    const counter = new Counter(node)
    counters.set(node, counter)
    readReports(node, KINDS, (report) => counter.hear(report))
  },
})
