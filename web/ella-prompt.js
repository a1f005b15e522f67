// Finds what a prompt's node will read, as far as that is known before the run.

import { inputOf, usesOf } from "./ella-links.js"
import { t } from "./ella-texts.js"

// Nodes that output the value of their widget "value".
const PRIMITIVES = new Set(["PrimitiveString", "PrimitiveStringMultiline"])

// Node -> its input with the prompt that is counted.
export const PROMPTS = { ELLALLMTextEncode: "text", ELLAPrompt: "positive" }

// How a prompt is read whose node has no such inputs.
const USUAL = { max_length: 0, long_prompt: "whole" }

// Puts its own around what the LLM reads, and passes the LLM on.
const TEMPLATE = "ELLAPromptTemplate"

const BYPASSED = 4 // a node's mode; the run takes its input of the output's type

// Return what to count, or a hint why that is unknown before the run.
export function ask(node) {
  const question = {}
  for (const key of ["text", "max_length", "long_prompt"]) {
    const name = key === "text" ? PROMPTS[node.comfyClass] : key
    if (!inputOf(node, name) && key in USUAL) {
      question[key] = USUAL[key]
      continue
    }
    const { hint, value } = known(node, name)
    if (hint) return { hint }
    question[key] = value
  }
  const { hint, template } = templateOf(node)
  if (hint) return { hint }
  if (template) question.template = template
  const llms = sources(node, inputOf(node, "llm"), ({ type }) => (type === TEMPLATE ? "llm" : "llm_name"))
  if (!llms.length) return { hint: t("connect Load LLM (ELLA) to count tokens") }
  if (llms.includes(undefined)) {
    return { hint: t("the LLM is chosen by another node: counted in the run") }
  }
  const names = new Set(llms.map(({ value }) => value))
  if (names.size > 1) {
    return { hint: t("the LLM differs between uses of this subgraph: counted in the run") }
  }
  const ella_name = inputOf(node, "ella") ? connectorInto(node) : connectorOf(node)
  return { llm_name: [...names][0], ella_name, ...question }
}

// The { value } of a node's input, or the { hint } why it is unknown before the run.
function known(node, name, within = []) {
  const slot = inputOf(node, name)
  const input = labelOf(slot, name)
  const widgets = sources(node, slot, ({ type }) => PRIMITIVES.has(type) && "value", within)
  if (!widgets.length || widgets.includes(undefined)) {
    return { hint: t("<input> comes from another node: counted in the run", { input }) }
  }
  const values = new Set(widgets.map(({ value }) => value))
  if (values.size > 1) {
    return {
      hint: t("<input> differs between uses of this subgraph: counted in the run", { input }),
    }
  }
  return { value: [...values][0] }
}

// The { template } between a prompt and its LLM, the nearest if there are several, or the { hint }
// why it is unknown before the run; neither without one.
function templateOf(node) {
  const found = makers(node, inputOf(node, "llm")).map(({ node: maker, within }) => {
    if (maker.type !== TEMPLATE) return {}
    const template = {}
    for (const name of ["system_prompt", "template", "skip_tokens"]) {
      const { hint, value } = known(maker, name, within)
      if (hint) return { hint }
      template[name] = value
    }
    return { template }
  })
  const different = new Set(found.map((each) => JSON.stringify(each)))
  if (different.size > 1) {
    return { hint: t("the template differs between uses of this subgraph: counted in the run") }
  }
  return found[0] ?? {}
}

// The connector that a prompt is for, which knows how many tokens it was trained on. Undefined where
// the editor finds none; the server then counts for the released one.
function connectorOf(node, slot = 0) {
  const links = (node.outputs[slot]?.links ?? []).map((id) => node.graph.getLink(id))
  return first(links, (link) => connectorBehind(node.graph, link))
}

// The same for one link, into subgraphs and out of them.
function connectorBehind(graph, link) {
  if (!link) return undefined
  if (link.targetIsIoNode) return first(usesOf(graph), (use) => connectorOf(use, link.target_slot))
  const target = graph.getNodeById(link.target_id)
  if (target.subgraph) {
    const inside = target.subgraph.inputNode.slots[link.target_slot]?.getLinks() ?? []
    return first(inside, (inner) => connectorBehind(target.subgraph, inner))
  }
  if (inputOf(target, "ella")) return connectorInto(target)
  return target.type === "ELLABlendEmbeds" || target.isVirtualNode ? connectorOf(target) : undefined
}

function connectorInto(node) {
  return sources(node, inputOf(node, "ella"), () => "ella_name")[0]?.value
}

// The first answer that is not undefined.
function first(items, answer) {
  for (const item of items) {
    const found = answer(item)
    if (found !== undefined) return found
  }
  return undefined
}

// What the editor calls the input with the prompt, where a node has several texts.
export function promptLabel(node) {
  const name = PROMPTS[node.comfyClass]
  return name === "text" ? undefined : labelOf(inputOf(node, name), name)
}

function labelOf(slot, name) {
  return slot?.label || slot?.localized_name || name
}

// Return where an input's value comes from: widgets ({ widget }, undefined for an input without one)
// or outputs of other nodes ({ node, slot, within }). There are several if a subgraph is used several
// times, unless `within` lists the subgraph nodes to go through, from the outside in.
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

// Return the widgets behind an input, through reroutes and subgraphs: none if nothing is connected,
// undefined if the run decides. `inputFrom` names the input of a node that its output passes on.
function sources(node, input, inputFrom, within = []) {
  return origins(node, input, within).flatMap((origin) => behind(origin, inputFrom))
}

function behind({ widget, node, slot, within }, inputFrom) {
  if (!node) return widget ? [widget] : []
  const further = through(node, slot, within)
  if (further) return further.flatMap((origin) => behind(origin, inputFrom))
  if (node.type === "PrimitiveNode") return [node.widgets?.[0]] // the editor's own
  const input = inputOf(node, inputFrom(node))
  return input ? sources(node, input, inputFrom, within) : [undefined]
}

// Return the nodes, each with its `within`, whose output comes to an input.
function makers(node, input, within = []) {
  return origins(node, input, within).flatMap(made)
}

function made({ node, slot, within }) {
  if (!node) return []
  return through(node, slot, within)?.flatMap(made) ?? [{ node, within }]
}

// Return where the output of a subgraph, or of a node that passes a link on or is bypassed, comes from;
// undefined for other nodes.
function through(node, slot, within) {
  if (node.mode === BYPASSED) {
    const input = node.inputs?.find(({ type }) => type === node.outputs[slot].type)
    return input ? origins(node, input, within) : []
  }
  if (node.subgraph) {
    const link = node.subgraph.outputNode.slots[slot]?.getLinks()[0]
    return link ? follow(node.subgraph, link, [...within, node]) : []
  }
  if (node.isVirtualNode && node.inputs?.length) return origins(node, node.inputs[0], within)
  return undefined
}
