// Colours for the slots and links of the pack's own types.
//
// Without colours, the types of all node packs look alike on the canvas, and their slots are
// invisible in Nodes 2.0. Each colour has a contrast of 3 or more to nodes of both themes.

import { app } from "../../scripts/app.js"

const COLORS = {
  ELLA: "#12a085",
  ELLA_LLM: "#3f82ee",
  ELLA_LLM_EMBEDS: "#d24fb4",
  ELLA_EMBEDS: "#7f961f",
  ELLA_XY: "#9a78d8",
  T5_TEXT_ENCODER: "#cb6840",
}

const VARIABLES = Object.entries(COLORS).map(([type, color]) => `--color-datatype-${type}: ${color};`)

// Keeps the colours that the user's palette defines.
function fillIn() {
  const { canvas } = app
  for (const colors of [canvas.default_connection_color_byType, LGraphCanvas.link_type_colors]) {
    for (const [type, color] of Object.entries(COLORS)) colors[type] ||= color
  }
  canvas.setDirty(true, true)
}

app.registerExtension({
  name: "ELLA.Colors",
  setup() {
    const style = document.createElement("style")
    style.textContent = `:root { ${VARIABLES.join(" ")} }`
    document.head.append(style)
    fillIn()
    // Choosing a palette, also at the start, removes the colours of types that it does not define,
    // and changes the style of these elements.
    const chosen = new MutationObserver(fillIn)
    for (const element of [document.documentElement, document.body]) {
      chosen.observe(element, { attributeFilter: ["style"] })
    }
  },
})
