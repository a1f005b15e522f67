// ELLA's command in the palette and in the menu.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const CLEAR = "ELLA.ClearCache"

async function clearCache() {
  const toast = app.extensionManager.toast
  try {
    const response = await api.fetchApi("/ella/cache/clear", { method: "POST" })
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`)
    const { entries, bytes } = await response.json()
    const prompts = entries === 1 ? "1 encoded prompt" : `${entries} encoded prompts`
    const detail = `Deleted ${prompts} and freed ${(bytes / 2 ** 20).toFixed(1)} MiB.`
    toast.add({ severity: "success", summary: "ELLA", detail, life: 5000 })
  } catch (error) {
    const detail = `The cache was not cleared: ${error.message}`
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
