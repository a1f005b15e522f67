// Offers the only connector or LLM that is installed to a workflow that names another one, and the
// download to one whose connector or LLM is missing.

import { app } from "../../scripts/app.js"
import { openDialog } from "./ella-download.js"
import { t } from "./ella-texts.js"

// Loader -> its widgets.
const LOADERS = {
  ELLALoad: ["ella_name"],
  ELLALoadLLM: ["llm_name"],
  ELLALoadModels: ["ella_name", "llm_name"],
  ELLALoader: ["name"],
  "T5TextEncoderLoader #ELLA": ["name"],
}
const LATER = "ella.downloadOffered" // once in a window's life
// What the dialog brings.
const RELEASED = /(^|[\\/])(ella-sd1\.5-tsc-t5xl\.safetensors|models--google--flan-t5-xl--text_encoder)$/
const AUTO = "auto" // offers itself
const NOTHING = /^models\/.*: put / // what the list holds where nothing is installed

function nodesOf(graph) {
  return graph.nodes.flatMap((node) => [node, ...(node.subgraph ? nodesOf(node.subgraph) : [])])
}

function installed({ options }) {
  return options.values.filter((value) => value !== AUTO && !NOTHING.test(value))
}

function loaderWidgets() {
  const loaders = nodesOf(app.graph).filter((node) => node.comfyClass in LOADERS)
  const widgets = loaders.flatMap((node) =>
    node.widgets.filter(({ name }) => LOADERS[node.comfyClass].includes(name)),
  )
  return [...new Set(widgets)]
}

// With auto only what is not there at all is missing.
function isMissing(widget) {
  const there = installed(widget)
  return widget.value === AUTO ? !there.length : !there.includes(widget.value)
}

// To be mended by the one entry that the list has.
function hasOneOther(widget) {
  return widget.value !== AUTO && installed(widget).length === 1
}

async function offer() {
  const missing = loaderWidgets().filter(isMissing)
  const widgets = missing.filter(hasOneOther)
  const others = missing.filter((widget) => !widgets.includes(widget))
  if (others.some(({ value }) => value === AUTO || NOTHING.test(value) || RELEASED.test(value))) offerDownload()
  if (!widgets.length) return
  const lines = widgets.map((widget) =>
    t("<missing> is not installed. Use <installed>?", {
      missing: widget.value,
      installed: installed(widget)[0],
    }),
  )
  const message = [...new Set(lines)].join("\n")
  const agreed = await app.extensionManager.dialog.confirm({ title: "ELLA", message })
  if (!agreed) return
  for (const widget of widgets) widget.value = installed(widget)[0]
  app.canvas.setDirty(true, true)
}

function offerDownload() {
  if (sessionStorage.getItem(LATER)) return
  sessionStorage.setItem(LATER, "true")
  openDialog()
}

app.registerExtension({
  name: "ELLA.Offer",
  afterConfigureGraph() {
    offer() // not awaited: the workflow goes on loading
  },
})
