// The pack's own workflows in the template browser: which come first, and their notes, groups and
// titles in the editor's language.
//
// A workflow's file can hold one language. The others are in locales/*/main.json under
// "ellaTemplates", a note by its paragraphs. Workflows are taken for ours by a note that nobody has
// changed; texts of one's own stay as they are.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { PACK } from "./ella-pack.js"
import { translations } from "./ella-texts.js"

const FIRST = ["ella-prompt", "ella-text-to-image"]

function rank(name) {
  return FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length
}

// The server lists the files in the order of the disk, and the editor leaves them so.
const { getWorkflowTemplates } = api
api.getWorkflowTemplates = async function (...rest) {
  const found = await getWorkflowTemplates.apply(this, rest)
  found[PACK]?.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b))
  return found
}

function translateNote(text, texts) {
  const paragraphs = text.split("\n\n").map((paragraph) => texts[paragraph])
  return paragraphs.includes(undefined) ? undefined : paragraphs.join("\n\n")
}

app.registerExtension({
  name: "ELLA.Templates",
  beforeConfigureGraph({ nodes, groups }) {
    const texts = translations[app.extensionManager.setting.get("Comfy.Locale")]?.ellaTemplates
    const note = nodes?.find(({ type }) => type === "MarkdownNote")
    const translated = texts && note && translateNote(note.widgets_values[0], texts)
    if (!translated) return
    note.widgets_values[0] = translated
    for (const item of [...nodes, ...(groups ?? [])]) {
      if (texts[item.title]) item.title = texts[item.title]
    }
  },
})
