// Puts ELLA's nodes in place of CLIP Text Encodes.

import { app } from "../../scripts/app.js"
import { isPair } from "./ella-convert-plan.js"
import { linksFrom, usesOf } from "./ella-links.js"
import { boxOf, openUp, placeAbove, placeLeft, placeRight } from "./ella-room.js"

const PATCHES = new Set(["ELLAPatchModel", "ELLATimestepConditioning"])
const AUTO = "auto" // of ELLALoadModels
const REPORT = 60 // px that the lines of a report may take after a run

function add(graph, type) {
  const node = LiteGraph.createNode(type)
  graph.add(node)
  return node
}

function slotOf(node, name) {
  return node.inputs.findIndex((input) => input.name === name)
}

function widgetOf(node, name) {
  return node.widgets.find((widget) => widget.name === name)
}

// Lead a link's origin to an input, along the same points.
function lead(graph, link, node, name) {
  const slot = slotOf(node, name)
  if (link.originIsIoNode) {
    graph.inputNode.slots[link.origin_slot].connect(node.inputs[slot], node, link.parentId)
  } else {
    graph.getNodeById(link.origin_id).connect(link.origin_slot, node, slot, link.parentId)
  }
}

// Lead an output to where a link ends, along the same points.
function replaceOrigin(link, node, slot) {
  const { graph } = node
  if (link.targetIsIoNode) {
    graph.outputNode.slots[link.target_slot].connect(node.outputs[slot], node, link.parentId)
  } else {
    node.connect(slot, graph.getNodeById(link.target_id), link.target_slot, link.parentId)
  }
}

// The loaders of each graph: those that are there, or new ones above it.
class Loaders {
  constructor() {
    this.known = new Map()
  }

  in(graph, connector, x) {
    const key = `${graph.id}:${connector}`
    if (!this.known.has(key)) this.known.set(key, this.find(graph, connector, x))
    return this.known.get(key)
  }

  // Each is a node and its output.
  find(graph, connector, x) {
    const fits = (node) => {
      const { value, options } = widgetOf(node, "ella_name")
      // With auto a loader takes the only connector.
      const only = value === AUTO && options.values.filter((each) => each !== AUTO).length === 1
      return !connector || value === connector || only
    }
    const there = (type, also = () => true) =>
      graph.nodes.find((node) => node.type === type && node.mode === 0 && also(node))
    const from = (node, slot) => node && { node, slot }
    const ella = from(there("ELLALoad", fits), 0)
    const llm = from(there("ELLALoadLLM"), 0)
    if (ella && llm) return { ella, llm }
    const both = there("ELLALoadModels", fits) ?? this.make(graph, connector, x)
    return { ella: ella ?? from(both, 0), llm: llm ?? from(both, 1) }
  }

  // Its llm_name stays at auto, so that the connector chooses the LLM.
  make(graph, connector, x) {
    const node = add(graph, "ELLALoadModels")
    if (connector) widgetOf(node, "ella_name").value = connector
    placeAbove([node], x)
    return node
  }
}

function titleOf(encoder, node) {
  const usual = LiteGraph.registered_node_types[encoder.type].title
  if (encoder.title === usual) return node.title
  return encoder.title.replace("CLIP Text Encode", "LLM Text Encode")
}

// Put an LLM Text Encode with the same text beside a CLIP Text Encode, in its place on the canvas.
function encodeByLLM(encoder, llm) {
  const { graph } = encoder
  const node = add(graph, "ELLALLMTextEncode")
  const height = Math.max(encoder.size[1], node.size[1])
  if (!encoder.flags.collapsed) {
    openUp(graph, 1, boxOf(encoder)[3], height - encoder.size[1], [encoder, node])
  }
  node.pos = [...encoder.pos]
  node.setSize([Math.max(encoder.size[0], node.computeSize()[0]), height])
  node.title = titleOf(encoder, node)
  node.mode = encoder.mode
  Object.assign(node.flags, encoder.flags)
  if (encoder.color) node.color = encoder.color
  if (encoder.bgcolor) node.bgcolor = encoder.bgcolor
  widgetOf(node, "text").value = widgetOf(encoder, "text").value
  const link = graph.getLink(encoder.inputs[slotOf(encoder, "text")]?.link)
  if (link) lead(graph, link, node, "text")
  llm.node.connect(llm.slot, node, slotOf(node, "llm"))
  return node
}

// Lead the origin of a sampler's MODEL to a node of ours as well.
function leadModel({ node: sampler, model }, node) {
  const { graph } = node
  const { origin_id, origin_slot, originIsIoNode } = graph.getLink(sampler.inputs[model].link)
  lead(graph, { origin_id, origin_slot, originIsIoNode }, node, "model")
}

// Give the samplers a MODEL that has gone through a node, which there is one of for each MODEL.
function patchModels(uses, patches) {
  for (const use of uses) {
    const { graph } = use.node
    const link = graph.getLink(use.node.inputs[use.model].link)
    if (PATCHES.has(graph.getNodeById(link.origin_id)?.type)) continue
    const key = `${graph.id}:${link.origin_id}:${link.origin_slot}`
    if (!patches.has(key)) {
      const patch = add(graph, "ELLAPatchModel")
      const [left, top] = boxOf(use.node)
      placeLeft(patch, left, top + 30)
      leadModel(use, patch)
      patches.set(key, patch)
    }
    replaceOrigin(link, patches.get(key), 0)
  }
}

function makeRoomForReport(node) {
  node.setSize([node.size[0], node.computeSize()[1] + REPORT])
}

// The text box of an encoder in a subgraph may be shown on the subgraph's node: show the new one.
function keepShown(encoder, prompt) {
  for (const { properties } of usesOf(encoder.graph)) {
    const shown = properties.proxyWidgets // [[node's id, widget's name]]
    if (!Array.isArray(shown)) continue
    const old = String(encoder.id)
    if (!shown.some(([id]) => id === old)) continue
    properties.proxyWidgets = shown.map(([id, name]) => [id === old ? String(prompt.id) : id, name])
  }
}

function replace(encoder, prompt, node, slot) {
  keepShown(encoder, prompt)
  for (const link of linksFrom(encoder, 0)) replaceOrigin(link, node, slot)
  encoder.graph.remove(encoder)
}

// An ELLA Timestep Conditioning for a positive and a negative.
function turnPair(both, loaders) {
  const [{ encoder, uses, connector }] = both
  const { graph } = encoder
  const x = Math.min(...both.map((each) => each.encoder.pos[0]))
  const { ella, llm } = loaders.in(graph, connector, x)
  const prompts = both.map((each) => encodeByLLM(each.encoder, llm))
  const pair = add(graph, "ELLATimestepConditioning")
  makeRoomForReport(pair)
  const boxes = prompts.map(boxOf)
  const right = Math.max(...boxes.map((box) => box[2]))
  placeRight(pair, right, Math.min(...boxes.map((box) => box[1])) + 30)
  leadModel(uses[0], pair)
  for (const { node, model } of uses) {
    replaceOrigin(graph.getLink(node.inputs[model].link), pair, 0)
  }
  ella.node.connect(ella.slot, pair, slotOf(pair, "ella"))
  prompts.forEach((prompt, i) => {
    prompt.connect(0, pair, slotOf(pair, ["positive", "negative"][i]))
    replace(both[i].encoder, prompt, pair, i + 1)
  })
}

// An ELLA Conditioning for each prompt.
function turnOne({ encoder, uses, connector }, loaders, patches) {
  const { graph } = encoder
  const { ella, llm } = loaders.in(graph, connector, encoder.pos[0])
  const prompt = encodeByLLM(encoder, llm)
  const conditioning = add(graph, "ELLAConditioning")
  makeRoomForReport(conditioning)
  conditioning.mode = encoder.mode
  const [, top, right] = boxOf(prompt)
  placeRight(conditioning, right, top + 30)
  ella.node.connect(ella.slot, conditioning, slotOf(conditioning, "ella"))
  prompt.connect(0, conditioning, slotOf(conditioning, "embeds"))
  replace(encoder, prompt, conditioning, 0)
  patchModels(uses, patches)
}

// Change the graph as a plan says, in one step for Undo.
export function convert({ turned }) {
  app.canvas.emitBeforeChange()
  try {
    const [loaders, patches] = [new Loaders(), new Map()]
    const done = new Set()
    for (const first of turned) {
      const second = turned.find((each) => each !== first && isPair(first, each, turned))
      if (!second) continue
      turnPair([first, second], loaders)
      done.add(first).add(second)
    }
    for (const each of turned) if (!done.has(each)) turnOne(each, loaders, patches)
  } finally {
    app.canvas.emitAfterChange()
  }
  app.canvas.setDirty(true, true)
}
