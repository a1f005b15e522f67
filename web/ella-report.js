// What a run says on the nodes of this pack, wherever they are.
//
// The editor shows such a text on nodes of the open graph alone, and editors 1.32 find no node in a
// subgraph, whose id in a run is one such as "12:7". So what was said on a node that is not in sight
// is kept until its subgraph is opened, and then handed to the editor as one on a node of that graph.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { isOurs } from "./ella-pack.js"

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
  const inSight = node.graph === app.canvas.graph
  if (inSight && node.graph === app.graph) return // the editor has shown it
  kept.set(node, text)
  if (inSight) handOn(node)
}

function handOn(node) {
  const text = kept.get(node)
  if (text === undefined) return
  kept.delete(node)
  api.dispatchCustomEvent("progress_text", { nodeId: String(node.id), text, handedOn: true })
}

app.registerExtension({
  name: "ELLA.Report",
  setup() {
    api.addEventListener("progress_text", listen) // after the editor's own
    app.canvas.canvas.addEventListener("litegraph:set-graph", ({ detail }) =>
      detail.newGraph.nodes.forEach(handOn),
    )
  },
})
