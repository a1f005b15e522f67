// ELLA's command in the palette and in the menu.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const CLEAR = "ELLA.ClearCache"

async function clearCache() {
  const response = await api.fetchApi("/ella/cache/clear", { method: "POST" })
  if (!response.ok) {
    app.extensionManager.toast.add({
      severity: "error",
      summary: "ELLA",
      detail: `The cache was not cleared: ${response.status} ${response.statusText}`,
    })
    return
  }
  const { entries, bytes } = await response.json()
  const prompts = entries === 1 ? "1 encoded prompt" : `${entries} encoded prompts`
  app.extensionManager.toast.add({
    severity: "success",
    summary: "ELLA",
    detail: `Deleted ${prompts} and freed ${(bytes / 2 ** 20).toFixed(1)} MiB.`,
    life: 5000,
  })
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
