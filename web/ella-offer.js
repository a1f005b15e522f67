// Offers the only connector or LLM that is installed to a workflow that names another one, and the
// download to one whose connector or LLM is missing.

import { app } from "../../scripts/app.js"
import { openDialog } from "./ella-download.js"
import { t } from "./ella-texts.js"

// Loader -> its widget.
const LOADERS = {
  ELLALoad: "ella_name",
  ELLALoadLLM: "llm_name",
  ELLALoader: "name",
  "T5TextEncoderLoader #ELLA": "name",
}
const LATER = "ella.downloadOffered" // once in a window's life
// What the dialog brings.
const RELEASED = /(^|[\\/])(ella-sd1\.5-tsc-t5xl\.safetensors|models--google--flan-t5-xl--text_encoder)$/
const NOTHING = /^models\/.*: put / // what the list holds where nothing is installed

function nodesOf(graph) {
  return graph.nodes.flatMap((node) => [node, ...(node.subgraph ? nodesOf(node.subgraph) : [])])
}

function loaderWidgets() {
  const loaders = nodesOf(app.graph).filter((node) => node.comfyClass in LOADERS)
  const widgets = loaders.map((node) =>
    node.widgets.find(({ name }) => name === LOADERS[node.comfyClass]),
  )
  return [...new Set(widgets)]
}

function isMissing({ value, options: { values } }) {
  return NOTHING.test(value) || !values.includes(value)
}

// To be mended by the one entry that the list has.
function hasOneOther({ options: { values } }) {
  return values.length === 1 && !NOTHING.test(values[0])
}

async function offer() {
  const missing = loaderWidgets().filter(isMissing)
  const widgets = missing.filter(hasOneOther)
  const others = missing.filter((widget) => !widgets.includes(widget))
  if (others.some(({ value }) => NOTHING.test(value) || RELEASED.test(value))) offerDownload()
  if (!widgets.length) return
  const lines = widgets.map(({ value, options }) =>
    t("<missing> is not installed. Use <installed>?", {
      missing: value,
      installed: options.values[0],
    }),
  )
  const message = [...new Set(lines)].join("\n")
  const agreed = await app.extensionManager.dialog.confirm({ title: "ELLA", message })
  if (!agreed) return
  for (const widget of widgets) widget.value = widget.options.values[0]
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
