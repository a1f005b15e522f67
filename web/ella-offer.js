// Offers the only connector or LLM that is installed to a workflow that names another one.

import { app } from "../../scripts/app.js"
import { t } from "./ella-texts.js"

// Loader -> its widget.
const LOADERS = {
  ELLALoad: "ella_name",
  ELLALoadLLM: "llm_name",
  ELLALoader: "name",
  "T5TextEncoderLoader #ELLA": "name",
}
const NOTHING = /^models\/.*: put / // what the list holds where nothing is installed

function nodesOf(graph) {
  return graph.nodes.flatMap((node) => [node, ...(node.subgraph ? nodesOf(node.subgraph) : [])])
}

// The widgets to mend: the list has one entry, and the value is another.
function mismatches() {
  const loaders = nodesOf(app.graph).filter((node) => node.comfyClass in LOADERS)
  const widgets = loaders.map((node) =>
    node.widgets.find(({ name }) => name === LOADERS[node.comfyClass]),
  )
  return [...new Set(widgets)].filter(({ value, options: { values } }) => {
    return values.length === 1 && value !== values[0] && !NOTHING.test(values[0])
  })
}

async function offer() {
  const widgets = mismatches()
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

app.registerExtension({
  name: "ELLA.Offer",
  afterConfigureGraph() {
    offer() // not awaited: the workflow goes on loading
  },
})
