// Translates the texts of this pack's JavaScript into the editor's language.
//
// The English texts are in the code. Their translations are in locales/*/main.json under "ella",
// from where the server collects them; the editor's own translator is not open to node packs.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

// Language -> all texts of node packs in it. None, and so English, where the server has no /i18n.
export const translations = await api
  .fetchApi("/i18n")
  .then((response) => response.json())
  .catch(() => ({}))

// The editor's language, or English if this pack does not speak it.
function language() {
  const locale = app.extensionManager.setting.get("Comfy.Locale")
  return translations[locale]?.ella ? locale : "en"
}

// Translate an English text and fill in a value for each <name>. Write the text out in the call,
// where the tests look for it.
export function t(english, values = {}) {
  const text = translations[language()]?.ella?.[english] ?? english
  return text.replace(/<(\w+)>/g, (_, name) => {
    const value = values[name]
    return typeof value === "number" ? value.toLocaleString(language()) : value
  })
}
