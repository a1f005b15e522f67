// Notes, groups and titles of the pack's own workflows in the editor's language.
//
// A workflow's file can hold one language. The others are in locales/*/main.json under
// "ellaTemplates", a note by its paragraphs. Workflows are taken for ours by a note that nobody has
// changed; texts of one's own stay as they are.

import { app } from "../../scripts/app.js"
import { translations } from "./ella-texts.js"

function translateNote(text, texts) {
  const paragraphs = text.split("\n\n").map((paragraph) => texts[paragraph])
  return paragraphs.includes(undefined) ? undefined : paragraphs.join("\n\n")
}

app.registerExtension({
  name: "ELLA.Templates",
  beforeConfigureGraph({ nodes, groups }) {
    const texts = translations[app.extensionManager.setting.get("Comfy.Locale")]?.ellaTemplates
    const note = nodes?.find(({ type }) => type === "MarkdownNote")
    const text = note?.widgets_values?.[0]
    if (!texts || typeof text !== "string") return
    const translated = translateNote(text, texts)
    if (!translated) return
    note.widgets_values[0] = translated
    for (const item of [...nodes, ...(groups ?? [])]) {
      if (texts[item.title]) item.title = texts[item.title]
    }
  },
})
