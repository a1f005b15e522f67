// The menu entry "Download ELLA models": lists the models and downloads what the user confirms.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { t } from "./ella-texts.js"

const DOWNLOAD = "ELLA.DownloadModels"
const POLL = 1000 // milliseconds
const TOAST = 10_000 // milliseconds

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }
  const response = await api.fetchApi(path, options)
  const answer = await response.json().catch(() => ({}))
  if (!response.ok) throw new Error(answer.error ?? `${response.status} ${response.statusText}`)
  return answer
}

function element(tag, style = {}, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties)
  Object.assign(made.style, style)
  return made
}

function sizeText(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(0)} MB`
}

function stateText({ size, missing, unavailable }) {
  if (unavailable) return t("not to be had")
  if (missing === 0) return t("already there")
  if (missing === size) return sizeText(size)
  const values = { size: sizeText(size), missing: sizeText(missing) }
  return t("<size>, <missing> of them still to come", values)
}

// The last part of a path or of a model's name in a dropdown.
export function fileName(path) {
  return String(path).split(/[\\/]/).at(-1)
}

class DownloadDialog {
  // `wanted`: names of models that are to be chosen; without a known one those of ELLA for SD1.5 are.
  constructor(wanted) {
    this.wanted = new Set(wanted.map(fileName))
    this.root = element("dialog", {
      background: "var(--comfy-menu-bg)",
      color: "var(--input-text)",
      border: "1px solid var(--border-color)",
      borderRadius: "8px",
      minWidth: "24rem",
      maxWidth: "44rem",
      margin: "auto",
      padding: "1rem 1.5rem",
    })
    const textContent = t("Download ELLA models")
    this.root.setAttribute("aria-label", textContent)
    const title = element("h3", { margin: "0 0 0.5rem" }, { textContent })
    // It may hold commands to copy. ComfyUI makes text unselectable.
    const selectable = { userSelect: "text", cursor: "text" }
    this.text = element("p", { whiteSpace: "pre-wrap", overflowWrap: "anywhere", ...selectable })
    this.text.setAttribute("role", "status")
    this.list = element("div")
    this.bar = element("progress", { width: "100%" }, { hidden: true, max: 1 })
    const buttons = element("div", { display: "flex", gap: "0.5rem", justifyContent: "end" })
    this.start = this.button(t("Download"), () => this.download())
    this.again = this.button(t("Try again"), () => this.begin())
    this.stop = this.button(t("Stop"), () => ask("/ella/downloads/stop", {}))
    this.close = this.button(t("Close"), () => this.root.close())
    buttons.append(this.start, this.again, this.stop, this.close)
    this.root.append(title, this.list, this.text, this.bar, buttons)
    // Keep keys from ComfyUI's shortcuts, and Escape from its other dialogs.
    this.root.addEventListener("keydown", (event) => {
      event.stopPropagation()
      if (event.key === "Escape") this.root.close()
    })
    this.root.addEventListener("copy", (event) => event.stopPropagation()) // else it copies nodes
    document.body.append(this.root)
  }

  button(textContent, action) {
    const onclick = () => Promise.resolve(action()).catch((error) => this.fail(error))
    return element("button", { padding: "0.4rem 1rem" }, { textContent, onclick })
  }

  // Choose what is visible besides the text. The focus stays inside, where the keys are caught.
  show({ models = [], start = false, again = false, progress = false }) {
    this.list.replaceChildren(...models)
    this.start.hidden = !start
    this.again.hidden = !again
    this.stop.hidden = this.bar.hidden = !progress
    this.close.textContent = progress ? t("Go on in the background") : t("Close")
    const button = start ? this.start : again ? this.again : this.close
    button.focus()
  }

  fail(error) {
    this.text.textContent = error.message
    this.show({ again: true })
  }

  async open() {
    this.root.showModal()
    if (!this.busy) await this.begin()
  }

  // Until the task is done, opening the dialog again shows this one.
  async working(task) {
    this.busy = true
    try {
      await task()
    } catch (error) {
      this.fail(error)
    } finally {
      this.busy = false
    }
  }

  begin() {
    return this.working(async () => {
      this.show({})
      if ((await ask("/ella/downloads/status")).running) return this.follow()
      this.text.textContent = t("Asking the hub what there is ...")
      this.offer(await ask("/ella/downloads"))
    })
  }

  offer(models) {
    const complete = models.every((model) => model.missing === 0)
    const lacking = models.some((model) => model.unavailable)
    const done = lacking ? t("Everything available is there.") : t("Everything is there.")
    this.text.textContent = complete
      ? done
      : t("Files that are there are left as they are. What comes is checked against its checksum.")
    const isNamed = (model) => this.wanted.has(fileName(model.target))
    // With auto the other model of the pair is wanted, too.
    const named = this.wanted.has("auto") ? models.filter(isNamed) : []
    const pairs = new Set(named.map(({ optional }) => optional))
    const isWanted = (model) => model.missing !== 0 && (isNamed(model) || pairs.has(model.optional))
    const chosen = models.some(isWanted) ? isWanted : (model) => !model.optional
    this.show({ models: models.map((model) => this.row(model, chosen(model))), start: !complete })
  }

  row(model, chosen) {
    const label = element("label", { display: "block", margin: "0.5rem 0", overflowWrap: "anywhere" })
    const there = model.missing === 0
    const checked = !there && chosen
    const properties = { type: "checkbox", checked, disabled: there, value: model.name }
    const box = element("input", { marginRight: "0.5rem" }, properties)
    const { address, target } = model
    const from = model.unavailable
      ? model.unavailable
      : model.unreached
      ? t("<address> was not reached, nothing was compared: <reason>", {
          address,
          reason: model.unreached,
        })
      : t("from <address>, commit <commit>", { address, commit: model.commit.slice(0, 12) })
    const title = t("<model> (<state>)", { model: model.label, state: stateText(model) })
    label.append(box, element("b", {}, { textContent: title }))
    const licence = model.licence ?? t("unknown: none was found")
    const lines = [from, t("to <target>", { target }), t("licence: <licence>", { licence })]
    for (const textContent of lines) {
      label.append(element("div", { marginLeft: "1.7rem", opacity: "0.8" }, { textContent }))
    }
    return label
  }

  async download() {
    const models = [...this.list.querySelectorAll("input:checked")].map((box) => box.value)
    if (models.length === 0) return
    await this.working(async () => {
      await ask("/ella/downloads", { models })
      await this.follow()
    })
  }

  // Follow the running download, even if a node or another window started it or the dialog closes.
  async follow() {
    this.show({ progress: true })
    let status = await ask("/ella/downloads/status")
    while (status.running) {
      this.tell(status)
      await new Promise((resolve) => setTimeout(resolve, POLL))
      status = await ask("/ella/downloads/status")
    }
    await this.finish(status)
  }

  tell({ text, done, total }) {
    const values = { text, done: sizeText(done), total: sizeText(total) }
    this.text.textContent = total ? t("<text>: <done> of <total>", values) : text
    if (total) this.bar.value = done / total
  }

  async finish({ text, failed }) {
    this.text.textContent = text
    this.bar.removeAttribute("value")
    this.show({ again: failed })
    const severity = failed ? "error" : "success"
    if (!this.root.open) {
      const life = failed ? undefined : TOAST // a failure stays until it is closed
      app.extensionManager.toast.add({ severity, summary: "ELLA", detail: text, life })
    }
    if (!failed) await app.refreshComboInNodes()
  }
}

let dialog

// `wanted`: see DownloadDialog.
export function openDialog(wanted = []) {
  if (dialog?.root.open) return
  if (!dialog?.busy) {
    dialog?.root.remove()
    dialog = new DownloadDialog(wanted) // a new one: the editor's language may have changed
  }
  return dialog.open()
}

app.registerExtension({
  name: "ELLA.Download",
  commands: [
    {
      id: DOWNLOAD,
      label: "ELLA: download ELLA models",
      menubarLabel: "Download ELLA models ...",
      icon: "pi pi-download",
      function: () => openDialog(),
    },
  ],
  menuCommands: [{ path: ["ELLA"], commands: [DOWNLOAD] }],

  // Refresh the dropdowns after the node has downloaded something.
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "ELLADownloadModels") return
    const onExecuted = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output, ...rest) {
      onExecuted?.call(this, output, ...rest)
      if (!output) return // an ExecutionBlocker stopped the node
      const [report] = output.text
      if (report === this.ellaReport) return // from ComfyUI's cache
      this.ellaReport = report
      app.refreshComboInNodes()
    }
  },
})
