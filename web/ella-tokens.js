// Shows under a prompt, while it is being written, how many tokens its LLM makes of it.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const NODE = "ELLATextEncode"
const WIDGET = "ella_tokens"
const TICK = 300 // ms; a prompt is counted once it has stayed the same for so long
const MARGIN = 4

const counters = new WeakMap() // node -> what is shown on it and what was asked for

function valueOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)?.value
}

// The link that feeds an input; where it comes out of the subgraph around, the one outside.
function origin(node, name) {
  const input = node.inputs?.findIndex((input) => input.name === name) ?? -1
  const link = input < 0 ? null : node.graph?.getLink(node.inputs[input].link)
  if (!link) return null
  if (!link.originIsIoNode) return { node: node.graph.getNodeById(link.origin_id), slot: link.origin_slot }
  const outer = subgraphNodes(app.rootGraph ?? app.graph).find((outer) => outer.subgraph === node.graph)
  return outer ? origin(outer, outer.inputs[link.origin_slot]?.name) : null
}

function subgraphNodes(graph) {
  const here = graph.nodes.filter((node) => node.subgraph)
  return [...here, ...here.flatMap((node) => subgraphNodes(node.subgraph))]
}

// The LLM that a node's input comes from, through reroutes and subgraphs; null if there is none.
function llmName(node) {
  let source = origin(node, "llm")
  while (source?.node && valueOf(source.node, "llm_name") === undefined) {
    const { node, slot } = source
    const inner = node.subgraph?.outputNode.slots[slot]?.getLinks()[0]
    if (inner) source = { node: node.subgraph.getNodeById(inner.origin_id), slot: inner.origin_slot }
    else if (node.isVirtualNode && node.inputs?.length === 1) source = origin(node, node.inputs[0].name)
    else return null
  }
  return source?.node ? valueOf(source.node, "llm_name") : null
}
