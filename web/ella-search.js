// Further words under which the node search finds a node.
//
// Newer editors search the aliases of the node's definition. Older ones search its id and its
// title alone, and of these little more than the first 30 characters. There the words, few and
// short, are part of the title, in the search and the node library only.
//
// All of them rank what they find by id and title: T5TokenizerOptions would come before the node
// that loads T5. A node whose own word was typed, in full, comes first.
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

// What the editor asks a node for before it sorts; the lowest comes first. The second number is
// how often a node is used, of which the editor knows nothing for ours.
function scoresFor(words) {
  const own = new Set(words.map((word) => word.toLowerCase()))
  return ([kind, ...rest]) => {
    const typed = document.activeElement?.value?.trim().toLowerCase()
    return [own.has(typed) ? -1 : kind, 0, ...rest]
  }
}

function takeOffSuggestions() {
  const suggestions = app.extensions.find(({ name }) => name === "Comfy.SlotDefaults")
  for (const side of ["slot_types_default_in", "slot_types_default_out"]) {
    for (const [type, names] of Object.entries(suggestions[side])) {
      suggestions[side][type] = names.filter(isSuggested)
    }
  }
  suggestions.setDefaults(suggestions.suggestionsNumber?.value)
}

app.registerExtension({
  name: "ELLA.Search",
  setup: takeOffSuggestions,
  refreshComboInNodes: takeOffSuggestions, // the editor has put them back

  // The search gives a new node the title that it has there.
  nodeCreated(node) {
    if (node.comfyClass in terms) node.title = node.constructor.title
  },

  beforeRegisterVueAppNodeDefs(nodeDefs) {
    nodeDefs.forEach((nodeDef, i) => {
      if (!(nodeDef.name in terms)) return
      const words = terms[nodeDef.name]
      // A copy: the title on the canvas stays as it is.
      nodeDefs[i] = { ...nodeDef, postProcessSearchScores: scoresFor(words) }
      if (!nodeDef.search_aliases?.length) {
        nodeDefs[i].display_name = `${nodeDef.display_name}: ${words.join(" ")}`
      }
    })
  },
})
