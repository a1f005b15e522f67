// What LLM Text Encode will read, as far as it is known before the run.

import { app } from "../../scripts/app.js"
import { t } from "./ella-texts.js"

// Nodes that hand on what is written in their own widget "value".
const PRIMITIVES = new Set(["PrimitiveString", "PrimitiveStringMultiline"])

// What is to be counted, or a hint why that is not known before the run.
export function ask(node) {
  const question = {}
  for (const name of ["text", "max_length", "long_prompt"]) {
    const slot = inputOf(node, name)
    const input = slot?.label || slot?.localized_name || name
    const widgets = sources(node, slot, ({ type }) => PRIMITIVES.has(type) && "value")
    if (!widgets.length || widgets.includes(undefined)) {
      return { hint: t("<input> comes from another node: counted in the run", { input }) }
    }
    const values = new Set(widgets.map(({ value }) => value))
    if (values.size > 1) {
      return {
        hint: t("<input> differs between uses of this subgraph: counted in the run", { input }),
      }
    }
    question[name] = [...values][0]
  }
  const llms = sources(node, inputOf(node, "llm"), () => "llm_name")
  if (!llms.length) return { hint: t("connect Load LLM (ELLA) to count tokens") }
  if (llms.includes(undefined)) {
    return { hint: t("the LLM is chosen by another node: counted in the run") }
  }
  const names = new Set(llms.map(({ value }) => value))
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

// The widgets that an input's value comes from, through reroutes and subgraphs: none where nothing
// is connected, undefined where the run decides. `inputFrom` names the input of a node that its
// output stands for.
function sources(node, input, inputFrom, within = []) {
  return origins(node, input, within).flatMap((origin) => behind(origin, inputFrom))
}

function behind({ widget, node, slot, within }, inputFrom) {
  if (!node) return widget ? [widget] : []
  if (node.subgraph) {
    const link = node.subgraph.outputNode.slots[slot]?.getLinks()[0]
    const found = link ? follow(node.subgraph, link, [...within, node]) : []
    return found.flatMap((origin) => behind(origin, inputFrom))
  }
  if (node.type === "PrimitiveNode") return [node.widgets?.[0]] // the editor's own
  if (node.isVirtualNode && node.inputs?.length) {
    return sources(node, node.inputs[0], inputFrom, within)
  }
  const input = inputOf(node, inputFrom(node))
  return input ? sources(node, input, inputFrom, within) : [undefined]
}
