// The command that clears the cache of encoded prompts.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import "./ella-download.js" // its entry stands first in the menu
import { t } from "./ella-texts.js"

const CLEAR = "ELLA.ClearCache"

async function clearCache() {
  const toast = app.extensionManager.toast
  try {
    const response = await api.fetchApi("/ella/cache/clear", { method: "POST" })
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`)
    const { entries, bytes } = await response.json()
    const values = { n: entries, size: (bytes / 2 ** 20).toFixed(1) }
    const detail =
      entries === 0
        ? t("The cache of encoded prompts was empty.")
        : entries === 1
          ? t("Deleted <n> encoded prompt and freed <size> MiB.", values)
          : t("Deleted <n> encoded prompts and freed <size> MiB.", values)
    const severity = entries === 0 ? "info" : "success"
    toast.add({ severity, summary: "ELLA", detail, life: 5000 })
  } catch (error) {
    const detail = t("The cache was not cleared: <reason>", { reason: error.message })
    toast.add({ severity: "error", summary: "ELLA", detail })
  }
}

app.registerExtension({
  name: "ELLA.Cache",
  commands: [
    {
      id: CLEAR,
      label: "ELLA: clear the cache of encoded prompts",
      menubarLabel: "Clear the cache of encoded prompts",
      icon: "pi pi-trash",
      function: clearCache,
    },
  ],
  menuCommands: [{ path: ["ELLA"], commands: [CLEAR] }],
})
