// What LLM Text Encode will read, as far as it is known before the run.

import { app } from "../../scripts/app.js"
import { t } from "./ella-texts.js"

// What is to be counted, or a hint why that is not known before the run.
export function ask(node) {
  const question = {}
  for (const name of ["text", "max_length", "long_prompt"]) {
    const slot = inputOf(node, name)
    const input = slot?.label || slot?.localized_name || name
    const found = origins(node, slot)
    if (!found.every(({ widget }) => widget)) {
      return { hint: t("<input> comes from another node: counted in the run", { input }) }
    }
    const values = new Set(found.map(({ widget }) => widget.value))
    if (values.size > 1) {
      return {
        hint: t("<input> differs between uses of this subgraph: counted in the run", { input }),
      }
    }
    question[name] = [...values][0]
  }
  const names = new Set(origins(node, inputOf(node, "llm")).flatMap(llmNames))
  if (!names.size) return { hint: t("connect Load LLM (ELLA) to count tokens") }
  if (names.has(undefined)) {
    return { hint: t("the LLM is chosen by another node: counted in the run") }
  }
  if (names.size > 1) {
    return { hint: t("the LLM differs between uses of this subgraph: counted in the run") }
  }
  return { llm_name: [...names][0], ...question }
}

function inputOf(node, name) {
  return node.inputs?.find((input) => input.name === name)
}

// Where the value of an input comes from: widgets ({ widget }, undefined for an input without one)
// or outputs of other nodes ({ node, slot, within }). Several if a subgraph is used several times,
// unless `within` tells which uses are meant, as subgraph nodes from the outside in.
function origins(node, input, within = []) {
  const link = node.graph?.getLink(input?.link)
  if (link) return follow(node.graph, link, within)
  return [{ widget: input && node.getWidgetFromSlot(input) }]
}

function follow(graph, link, within) {
  if (!link.originIsIoNode) {
    return [{ node: graph.getNodeById(link.origin_id), slot: link.origin_slot, within }]
  }
  const uses = within.length ? [within.at(-1)] : usesOf(graph)
  return uses.flatMap((use) => origins(use, use.inputs[link.origin_slot], within.slice(0, -1)))
}

function usesOf(subgraph) {
  return [...new Set(subgraphNodes(app.graph))].filter((node) => node.subgraph === subgraph)
}

function subgraphNodes(graph) {
  const here = graph.nodes.filter((node) => node.subgraph)
  return [...here, ...here.flatMap((node) => subgraphNodes(node.subgraph))]
}

// The LLM's names behind an origin, through reroutes and subgraphs: none where nothing is
// connected, undefined where the run decides.
function llmNames({ node, slot, within }) {
  if (!node) return []
  if (node.subgraph) {
    const link = node.subgraph.outputNode.slots[slot]?.getLinks()[0]
    return link ? follow(node.subgraph, link, [...within, node]).flatMap(llmNames) : []
  }
  if (node.isVirtualNode && node.inputs?.length) {
    return origins(node, node.inputs[0], within).flatMap(llmNames)
  }
  const input = inputOf(node, "llm_name")
  return input ? origins(node, input, within).map(({ widget }) => widget?.value) : [undefined]
}
