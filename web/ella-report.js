// What a run says on the nodes of this pack, wherever they are.
//
// The editor shows such a text on nodes of the open graph alone, and editors 1.32 find no node in a
// subgraph, whose id in a run is one such as "12:7". So what was said on a node that is not in sight
// is kept until its subgraph is opened, and then handed to the editor as one on a node of that graph.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { isOurs } from "./ella-pack.js"

const REPORTING = new Set(["ELLATimestepConditioning", "ELLAConditioning"])
const WIDTH = 360 // px of a new node, for its title and the lines of a report
const MARGINS = 20 // px above and below the text
const WIDGET = "$$node-text-preview" // the editor's, for such a text

// The editor breaks lines inside words, and makes room for less than two of them.
const STYLE = `
  .ella-report { max-height: 100%; padding-block: 3px; }
  .ella-report .break-all { word-break: normal; overflow-wrap: anywhere; }
`

const readers = new WeakMap() // node -> the function that shows its texts
const kept = new WeakMap() // node -> the last text that is not to be seen yet

export function readReports(node, reader) {
  readers.set(node, reader)
}

function nodeOf(executionId) {
  let [node, graph] = [undefined, app.graph]
  for (const id of String(executionId).split(":")) {
    node = graph?.getNodeById(id)
    graph = node?.subgraph
  }
  return node
}

function listen({ detail: { nodeId, text, handedOn } }) {
  const node = handedOn ? undefined : nodeOf(nodeId)
  if (!isOurs(node?.constructor.nodeData)) return
  const reader = readers.get(node)
  if (reader) return reader(text)
  if (node.graph === app.graph && isInSight(node)) return dress(node) // the editor has shown it
  kept.set(node, text)
  handOn(node)
}

function isInSight(node) {
  return node.graph === app.canvas.graph
}

function handOn(node) {
  const text = kept.get(node)
  if (text === undefined || !isInSight(node)) return
  kept.delete(node)
  api.dispatchCustomEvent("progress_text", { nodeId: String(node.id), text, handedOn: true })
  dress(node)
}

// Before it is drawn, with attributes that its element gets.
function dress(node) {
  const widget = node.widgets?.find(({ name }) => name === WIDGET)
  if (!widget?.props) return
  const id = `ella-report-${widget.id}`
  Object.assign(widget.props, { id, class: "ella-report" })
  widget.options.getMinHeight = () => (document.getElementById(id)?.scrollHeight ?? 0) + MARGINS
  // Once it is there: the editor lays a node out while it draws it, and draws it as it was before.
  requestAnimationFrame(() => {
    node.arrange()
    node.setDirtyCanvas(true, true)
  })
}

app.registerExtension({
  name: "ELLA.Report",
  setup() {
    document.head.appendChild(document.createElement("style")).textContent = STYLE
    api.addEventListener("progress_text", listen) // after the editor's own
    app.canvas.canvas.addEventListener("litegraph:set-graph", ({ detail }) =>
      detail.newGraph.nodes.forEach(handOn),
    )
  },
  // A node of a workflow gets its size after this.
  nodeCreated(node) {
    const [width, height] = node.size
    if (REPORTING.has(node.comfyClass)) node.setSize([Math.max(width, WIDTH), height])
  },
})
