// Offers the only connector or LLM that is installed to a workflow that names another one, and the
// download to one whose connector or LLM is missing.

import { app } from "../../scripts/app.js"
import { fileName, openDialog } from "./ella-download.js"
import { allNodes } from "./ella-links.js"
import { isOurs } from "./ella-pack.js"
import { t } from "./ella-texts.js"

// Loader -> its widgets.
const LOADERS = {
  ELLALoad: ["ella_name"],
  ELLALoadLLM: ["llm_name"],
  ELLALoadModels: ["ella_name", "llm_name"],
  ELLALoader: ["name"],
  "T5TextEncoderLoader #ELLA": ["name"],
  LLMAdapterLoader: ["adapter_name"],
  LLMAdapterLoaderCustom: ["adapter_name"],
  LLMModelLoader: ["model_name"],
  LLMGGUFModelLoader: ["model_name"],
  T5GEMMALoader: ["model_name"],
}
const LATER = "ella.downloadOffered" // once in a window's life
// What the dialog brings.
const RELEASED = new Set([
  "ella-sd1.5-tsc-t5xl.safetensors",
  "models--google--flan-t5-xl--text_encoder",
  "rouweiGemma_g31b27k.safetensors",
  "gemma-3-1b-it",
])
const AUTO = "auto" // offers itself
const NOTHING = /^models\/.*: put / // what the list holds where nothing is installed

// Questions answered with no. Undo and a change of tabs load a graph again.
const declined = new Set()

function installed({ options }) {
  return options.values.filter((value) => value !== AUTO && !NOTHING.test(value))
}

function loaderWidgets() {
  const loaders = allNodes().filter(
    (node) => node.comfyClass in LOADERS && isOurs(node.constructor.nodeData),
  )
  return loaders.flatMap((node) =>
    node.widgets.filter(({ name }) => LOADERS[node.comfyClass].includes(name)),
  )
}

// With auto only what is not there at all is missing.
function isMissing(widget) {
  const there = installed(widget)
  return widget.value === AUTO ? !there.length : !there.includes(widget.value)
}

// The dialog has it, or nothing is named.
function isOffered({ value }) {
  return value === AUTO || NOTHING.test(value) || RELEASED.has(fileName(value))
}

// To be mended by the one entry that the list has, unless that is known to be another model.
function hasOneOther(widget) {
  const there = installed(widget)
  if (widget.value === AUTO || there.length !== 1) return false
  const [wanted, found] = [widget.value, there[0]].map(fileName)
  return wanted === found || !(RELEASED.has(wanted) && RELEASED.has(found))
}

function question(widget) {
  const values = { missing: widget.value, installed: installed(widget)[0] }
  return t("<missing> is not installed. Use <installed>?", values)
}

async function offer() {
  const named = loaderWidgets()
  const missing = named.filter(isMissing)
  const widgets = missing.filter(hasOneOther)
  const others = missing.filter((widget) => !widgets.includes(widget))
  // The dialog asks the disk, which may have less than the lists here.
  const wanted = named.filter((widget) => widget.value !== AUTO || isMissing(widget))
  if (others.some(isOffered)) offerDownload(wanted.map(({ value }) => value))
  const open = widgets.filter((widget) => !declined.has(question(widget)))
  if (!open.length) return
  const questions = [...new Set(open.map(question))]
  const message = questions.join("\n")
  const agreed = await app.extensionManager.dialog.confirm({ title: "ELLA", message })
  if (!agreed) {
    for (const each of questions) declined.add(each)
    return
  }
  for (const widget of open) widget.value = installed(widget)[0]
  app.canvas.setDirty(true, true)
}

function offerDownload(names) {
  if (sessionStorage.getItem(LATER)) return
  sessionStorage.setItem(LATER, "true")
  openDialog(names)
}

app.registerExtension({
  name: "ELLA.Offer",
  afterConfigureGraph() {
    offer() // not awaited: the workflow goes on loading
  },
})
