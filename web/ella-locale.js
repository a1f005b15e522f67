// The nodes' texts in the editor's language, from locales/.
//
// Editors 1.32 lose a pack's texts in a language at the moment when they load that language
// (https://github.com/Comfy-Org/ComfyUI_frontend/pull/7214). Other editors show these texts by
// themselves, and what is set here is the same.

import { app } from "../../scripts/app.js"
import { isOurs } from "./ella-pack.js"
import { translations } from "./ella-texts.js"

function textsOf(nodeData) {
  if (!isOurs(nodeData)) return undefined
  const locale = app.extensionManager.setting.get("Comfy.Locale")
  return translations[locale]?.nodeDefs?.[nodeData.name]
}

app.registerExtension({
  name: "ELLA.Locale",

  beforeRegisterNodeDef(_, nodeData) {
    const translated = textsOf(nodeData)
    if (!translated) return
    nodeData.display_name = translated.display_name
    nodeData.description = translated.description
    const inputs = { ...nodeData.input.required, ...nodeData.input.optional }
    for (const [name, [, options]] of Object.entries(inputs)) {
      options.tooltip = translated.inputs[name].tooltip
    }
    nodeData.output_tooltips = nodeData.output.map((_, i) => translated.outputs[i].tooltip)
  },

  nodeCreated(node) {
    const translated = textsOf(node.constructor.nodeData)
    if (!translated) return
    for (const slot of node.inputs) {
      slot.localized_name = translated.inputs[slot.name]?.name ?? slot.localized_name
    }
    for (const widget of node.widgets ?? []) {
      widget.label = translated.inputs[widget.name]?.name ?? widget.label
    }
    node.outputs.forEach((slot, i) => {
      slot.localized_name = translated.outputs[i]?.name ?? slot.localized_name
    })
  },
})
