// Shows on the nodes what a run says about them, also on those in subgraphs.
//
// The server sends numbers and names in an event of this pack's own; see
// ella_core/comfy/editor/events.py.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { isOurs } from "./ella-pack.js"
import { reportWords } from "./ella-words.js"

const EVENT = "ella.report"
const REPORTING = new Set(["ELLATimestepConditioning", "ELLAConditioning", "ELLAPrompt"])
const SAVES = "ELLASaveEmbeds" // shows the names of its files
const NOTES = new Set(["frozen"]) // kinds of reports that nodes of others show
const WIDTH = 360 // px of a new node, for its title and the lines of a report
const WIDGET = "ella_report"
const LINE = 15 // px
const MARGIN = 6 // px above and below the text

const STYLE = `
  .ella-report { box-sizing: border-box; contain: inline-size; padding: 0 7px;
    font: 11px/${LINE}px Inter, Arial, sans-serif; color: var(--input-text); }
  .ella-report p { margin: 0; white-space: pre-line; overflow-wrap: anywhere; }
`

const readers = new WeakMap() // node -> the function that shows some of its reports, and their kinds
const noted = new Set() // nodes of others that show a note of the last run

// Have a function show a node's reports of these kinds in place of the lines below its widgets.
export function readReports(node, kinds, show) {
  readers.set(node, { kinds, show })
}

// The id of a node in a subgraph is a path such as "12:7".
function nodeOf(executionId) {
  let [node, graph] = [undefined, app.graph]
  for (const id of String(executionId).split(":")) {
    node = graph?.getNodeById(id)
    graph = node?.subgraph
  }
  return node
}

// Whether the open workflow is the one that was queued. Programs may queue without one.
function isOpen({ workflow }) {
  return !workflow || workflow === app.graph.id
}

function listen({ detail: report }) {
  if (!isOpen(report)) return
  const node = nodeOf(report.node)
  const ours = isOurs(node?.constructor.nodeData)
  if (!node || (!ours && !NOTES.has(report.kind))) return // was deleted or replaced during the run
  if (!ours) noted.add(node)
  const reader = readers.get(node)
  if (reader?.kinds.has(report.kind)) reader.show(report)
  else write(node, reportWords(report))
}

function write(node, text) {
  const widget = node.widgets?.find(({ name }) => name === WIDGET) ?? addWidget(node)
  widget.element.firstChild.textContent = text
  // Once the text has its height.
  requestAnimationFrame(() => {
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
    node.setDirtyCanvas(true, true)
  })
}

function addWidget(node) {
  const element = document.createElement("div")
  element.className = "ella-report"
  const words = element.appendChild(document.createElement("p"))
  const lines = () => words.textContent.split("\n").length
  // Out of sight, and before it is laid out, the text has no width, and so no height of its own.
  const height = () => (words.offsetWidth ? words.offsetHeight : lines() * LINE) + 2 * MARGIN
  const widget = node.addDOMWidget(WIDGET, WIDGET, element, {
    serialize: false, // not sent with the prompt
    margin: MARGIN,
    getValue: () => words.textContent,
    getMinHeight: height,
    getMaxHeight: height,
  })
  widget.serialize = false // and not saved in the workflow
  return widget
}

function forgetNotes() {
  for (const node of noted) {
    const widget = node.widgets?.find(({ name }) => name === WIDGET)
    if (widget) node.removeWidget(widget)
  }
  noted.clear()
}

app.registerExtension({
  name: "ELLA.Report",
  setup() {
    document.head.appendChild(document.createElement("style")).textContent = STYLE
    api.addEventListener(EVENT, listen)
    api.addEventListener("execution_start", forgetNotes)
  },
  // The editor shows texts of a run on some nodes of its own alone.
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== SAVES) return
    const onExecuted = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output, ...rest) {
      onExecuted?.call(this, output, ...rest)
      if (!output) return // an ExecutionBlocker stopped the node
      write(this, output.text.join("\n"))
    }
  },
  // A node of a workflow gets its size after this.
  nodeCreated(node) {
    const [width, height] = node.size
    if (REPORTING.has(node.comfyClass)) node.setSize([Math.max(width, WIDTH), height])
  },
})
