// Further words under which the node search finds a node.
//
// Newer editors search the aliases of the node's definition. Older ones search its id and its
// title alone, and of these little more than the first 30 characters. There the words, few and
// short, are part of the title, in the search and the node library only.
//
// When a link is dropped on the canvas, the editor suggests the first few nodes that take it. Those
// of this pack that are deprecated are taken off these lists.

import { app } from "../../scripts/app.js"
import { isOurs } from "./ella-pack.js"

const terms = await (await fetch(new URL("search-terms.json", import.meta.url))).json()

function isSuggested(name) {
  const nodeData = LiteGraph.registered_node_types[name]?.nodeData
  return !(nodeData?.deprecated && isOurs(nodeData))
}

app.registerExtension({
  name: "ELLA.Search",

  setup() {
    const suggestions = app.extensions.find(({ name }) => name === "Comfy.SlotDefaults")
    for (const side of ["slot_types_default_in", "slot_types_default_out"]) {
      for (const [type, names] of Object.entries(suggestions[side])) {
        suggestions[side][type] = names.filter(isSuggested)
      }
    }
    suggestions.setDefaults(suggestions.suggestionsNumber?.value)
  },

  // The search gives a new node the title that it has there.
  nodeCreated(node) {
    if (node.comfyClass in terms) node.title = node.constructor.title
  },

  beforeRegisterVueAppNodeDefs(nodeDefs) {
    nodeDefs.forEach((nodeDef, i) => {
      if (!(nodeDef.name in terms) || nodeDef.search_aliases?.length) return
      // A copy: the title on the canvas stays as it is.
      const words = terms[nodeDef.name].join(" ")
      nodeDefs[i] = { ...nodeDef, display_name: `${nodeDef.display_name}: ${words}` }
    })
  },
})
