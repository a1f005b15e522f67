// Follows links, also into subgraphs and out of them.

import { app } from "../../scripts/app.js"

export function allNodes(graph = app.graph) {
  const inner = [...new Set(graph.nodes.map((node) => node.subgraph).filter(Boolean))]
  return [...new Set([...graph.nodes, ...inner.flatMap((subgraph) => allNodes(subgraph))])]
}

export function inputOf(node, name) {
  return node.inputs?.find((input) => input.name === name)
}

// Return the nodes that stand for a subgraph.
export function usesOf(subgraph) {
  return allNodes().filter((node) => node.subgraph === subgraph)
}

export function linksFrom(node, slot) {
  return (node.outputs[slot]?.links ?? []).map((id) => node.graph.getLink(id)).filter(Boolean)
}

// Return the inputs ({ node, slot }) that an output is connected to.
export function targetsOf(node, slot) {
  return linksFrom(node, slot).flatMap((link) => arrive(node.graph, link))
}

function arrive(graph, link) {
  if (link.targetIsIoNode) return usesOf(graph).flatMap((use) => targetsOf(use, link.target_slot))
  const node = graph.getNodeById(link.target_id)
  if (!node.subgraph) return [{ node, slot: link.target_slot }]
  const inner = node.subgraph.inputNode.slots[link.target_slot].getLinks()
  return inner.flatMap((each) => arrive(node.subgraph, each))
}

// Return the outputs ({ node, slot }) that an input may be connected to: several in a subgraph that
// is used several times.
export function originsOf(node, input) {
  const link = node.graph.getLink(input?.link)
  return link ? depart(node.graph, link) : []
}

function depart(graph, link) {
  if (link.originIsIoNode) {
    return usesOf(graph).flatMap((use) => originsOf(use, use.inputs[link.origin_slot]))
  }
  const node = graph.getNodeById(link.origin_id)
  if (!node.subgraph) return [{ node, slot: link.origin_slot }]
  const [inner] = node.subgraph.outputNode.slots[link.origin_slot].getLinks()
  return inner ? depart(node.subgraph, inner) : []
}
