// Further words under which the node search finds a node.
//
// Newer editors search the aliases of the node's definition. Older ones search its id and its
// title alone, and of these little more than the first 30 characters: there the words, few and
// short, are part of the title, in the search and the node library only.

import { app } from "../../scripts/app.js"

const terms = await (await fetch(new URL("search-terms.json", import.meta.url))).json()

app.registerExtension({
  name: "ELLA.Search",

  beforeRegisterVueAppNodeDefs(nodeDefs) {
    nodeDefs.forEach((nodeDef, i) => {
      if (!(nodeDef.name in terms) || nodeDef.search_aliases?.length) return
      // A copy: the title on the canvas stays as it is.
      const words = terms[nodeDef.name].join(" ")
      nodeDefs[i] = { ...nodeDef, display_name: `${nodeDef.display_name}: ${words}` }
    })
  },
})
