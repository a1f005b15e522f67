// Finds which CLIP Text Encodes ELLA can stand in for: those whose conditionings reach samplers with
// a MODEL that a connector is for.

import { api } from "../../scripts/api.js"
import { allNodes, originsOf, targetsOf } from "./ella-links.js"
import { isOurs } from "./ella-pack.js"
import { t } from "./ella-texts.js"

const ENCODER = "CLIPTextEncode"
const FILES = new Set(["ckpt_name", "unet_name"]) // widgets that name a model's file

export function isEncoder(node) {
  return node.type === ENCODER
}

function isPacks(node) {
  return isOurs(node.constructor.nodeData)
}

// Other packs' nodes, and ComfyUI's, that read a prompt with CLIP in a way of their own.
function isOtherEncoder(node) {
  const { type, subgraph, inputs = [], outputs = [] } = node
  const takes = (kind) => inputs.some((input) => input.type === kind)
  const gives = outputs.some((output) => output.type === "CONDITIONING")
  const reads = takes("CLIP") && gives && !takes("CONDITIONING")
  return type !== ENCODER && !subgraph && reads && !isPacks(node)
}

// The prompts in question: those that are selected if it is more than one, else all.
export function candidates(selected) {
  const encoders = [...selected].filter(isEncoder)
  return encoders.length > 1 ? encoders : allNodes().filter((n) => isEncoder(n) || isOtherEncoder(n))
}

// Follow a conditioning to the nodes that take it together with a MODEL. Returns why that can't be
// done, or undefined.
function follow(node, slot, uses, seen) {
  for (const target of targetsOf(node, slot)) {
    const { inputs, outputs, title } = target.node
    const input = inputs[target.slot]
    if (seen.has(input)) continue
    seen.add(input)
    if (isPacks(target.node)) return t("“<node>” takes it as CLIP's part beside ELLA", { node: title })
    const model = inputs.findIndex(({ type }) => type === "MODEL")
    const goesOn = passedOn(input, outputs ?? [])
    if (model >= 0 && inputs[model].link == null) return t("“<node>” has no MODEL", { node: title })
    if (model >= 0) uses.push({ node: target.node, model, side: input.name })
    else if (!goesOn.length) return t("it goes into “<node>”, which has no MODEL", { node: title })
    for (const output of goesOn) {
      const problem = follow(target.node, output, uses, seen)
      if (problem) return problem
    }
  }
  return undefined
}

// The outputs that a conditioning leaves a node by: the one of the input's name, or all.
function passedOn({ name }, outputs) {
  const slots = outputs.map((output, slot) => ({ ...output, slot }))
  const found = slots.filter(({ type }) => type === "CONDITIONING" || type === "*")
  const same = found.filter((output) => output.name === name)
  return (same.length ? same : found).map(({ slot }) => slot)
}

function isModel(slot) {
  return ["MODEL", "*"].includes(slot?.type)
}

// Collect the names of the files that a MODEL comes from, and the titles of the nodes that it comes
// from without one.
function sourcesOf(node, input, files, others) {
  for (const { node: origin, slot } of originsOf(node, input)) {
    const models = origin.inputs?.filter((each) => isModel(each) && each.link != null) ?? []
    for (const each of models) sourcesOf(origin, each, files, others)
    const named = origin.widgets?.filter(({ name }) => FILES.has(name)) ?? []
    for (const { value } of named) files.add(value)
    // What else goes into a node that takes anything, a number for example, is no MODEL.
    const begins = !models.length && !named.length && isModel(origin.outputs[slot])
    if (begins) others.add(origin.title)
  }
}

async function widths(models) {
  const request = { method: "POST", body: JSON.stringify({ models }) }
  const response = await api.fetchApi("/ella/widths", request)
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`)
  return response.json()
}

// The connector for models of these widths, or why there is none. An unknown width (null) fits, and
// 0 is that of models without the U-Net that connectors are for.
function connectorFor(models, found) {
  const without = [...models].find((each) => found.models[each] === 0)
  if (without) return { problem: t("ELLA is not for <model>", { model: without }) }
  const known = [...models].filter((name) => found.models[name])
  const [name] = known
  if (!name) return {}
  const width = found.models[name]
  const other = known.find((each) => found.models[each] !== width)
  if (other) return { problem: t("<first> and <second> differ in kind", { first: name, second: other }) }
  const connector = Object.keys(found.connectors).find((each) => found.connectors[each] === width)
  // Where nothing is installed yet, the released connector is meant, which is for SD1.5.
  if (connector || (width === 768 && !Object.keys(found.connectors).length)) return { connector }
  return { problem: t("no installed connector is for <model>", { model: name }) }
}

// Return what to do: `turned` has encoders with their uses ({ node, model, side }) and connector,
// `left` the other nodes with the reason, `unknown` the files of which nothing is known, and the nodes
// that a MODEL comes from without a file's name.
export async function makePlan(encoders) {
  const [turned, left] = [[], []]
  for (const encoder of encoders) {
    const uses = []
    const problem = !isEncoder(encoder)
      ? t("only CLIP Text Encode is turned")
      : (follow(encoder, 0, uses, new Set()) ?? (uses.length ? undefined : t("no sampler uses it")))
    if (problem) left.push({ node: encoder, problem })
    else turned.push({ encoder, uses })
  }
  for (const each of turned) {
    each.models = new Set()
    each.loaders = new Set()
    for (const { node, model } of each.uses) {
      sourcesOf(node, node.inputs[model], each.models, each.loaders)
    }
  }
  const found = await widths([...new Set(turned.flatMap(({ models }) => [...models]))])
  const fitting = turned.filter((each) => {
    const { connector, problem } = connectorFor(each.models, found)
    each.connector = connector
    if (problem) left.push({ node: each.encoder, problem })
    return !problem
  })
  const files = Object.keys(found.models).filter((name) => found.models[name] === null)
  const loaders = fitting.flatMap((each) => [...each.loaders])
  return { turned: fitting, left, unknown: [...new Set([...files, ...loaders])] }
}

// Whether the graph that is open still has the nodes of a plan.
export function isThere({ turned }) {
  const there = new Set(allNodes())
  return turned.every(
    ({ encoder, uses }) => there.has(encoder) && uses.every(({ node }) => there.has(node)),
  )
}

// Whether these two are the whole positive and negative of the same samplers, on one MODEL and on one
// graph: then one ELLA Timestep Conditioning is enough.
export function isPair(first, second, all) {
  const graph = first.encoder.graph
  const link = ({ node, model }) => node.graph.getLink(node.inputs[model].link)
  const sameUses = (a, b) => a.uses.every(({ node }) => b.uses.some((use) => use.node === node))
  const uses = [...first.uses, ...second.uses]
  const sources = new Set(uses.map((use) => `${link(use).origin_id}:${link(use).origin_slot}`))
  const shared = all.filter((each) => each.uses.some(({ node }) => uses.some((u) => u.node === node)))
  return (
    second.encoder.graph === graph &&
    uses.every(({ node }) => node.graph === graph) &&
    sources.size === 1 &&
    sameUses(first, second) &&
    sameUses(second, first) &&
    first.uses.every(({ side }) => side === "positive") &&
    second.uses.every(({ side }) => side === "negative") &&
    first.encoder.mode === 0 &&
    second.encoder.mode === 0 &&
    first.connector === second.connector &&
    shared.length === 2
  )
}

