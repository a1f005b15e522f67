// "Read these prompts with ELLA": turns a graph of CLIP Text Encodes into one of ELLA's nodes.

import { app } from "../../scripts/app.js"
import { convert } from "./ella-convert-graph.js"
import { candidates, isEncoder, isThere, makePlan } from "./ella-convert-plan.js"
import { t } from "./ella-texts.js"

const CONVERT = "ELLA.ReadPrompts"

function tell(severity, detail, life) {
  app.extensionManager.toast.add({ severity, summary: "ELLA", detail, life })
}

async function readPrompts() {
  const encoders = candidates(app.canvas.selectedItems)
  if (!encoders.length) return tell("info", t("There is no CLIP Text Encode here."), 5000)
  let plan
  try {
    plan = await makePlan(encoders)
    if (!isThere(plan)) throw new Error(t("the workflow was changed meanwhile"))
  } catch (error) {
    return tell("error", t("Nothing was changed: <reason>", { reason: error.message }))
  }
  const n = plan.turned.length
  if (n) {
    try {
      convert(plan)
    } catch ({ message: reason }) {
      return tell("error", t("Not all was changed: <reason>. Ctrl+Z takes back what was.", { reason }))
    }
    const text = n === 1 ? t("ELLA reads <n> prompt now.", { n }) : t("ELLA reads <n> prompts now.", { n })
    tell("success", `${text} ${t("Ctrl+Z takes it back.")}`, 8000)
  }
  const lines = plan.unknown.map((model) => t("Whether a connector fits <model> is not known.", { model }))
  if (plan.left.length) {
    const left = plan.left.map(({ node, problem }) =>
      t("<node> (<id>): <problem>", { node: node.title, id: String(node.id), problem }),
    )
    lines.push(t("Left as it was:"), ...left)
  }
  if (lines.length) tell("warn", lines.join("\n")) // until it is closed
}

const item = () => ({ content: t("Read these prompts with ELLA"), callback: () => readPrompts() })

app.registerExtension({
  name: "ELLA.Convert",
  commands: [
    {
      id: CONVERT,
      label: "ELLA: read these prompts with ELLA",
      menubarLabel: "Read these prompts with ELLA",
      icon: "pi pi-arrow-right-arrow-left",
      function: readPrompts,
    },
  ],
  menuCommands: [{ path: ["ELLA"], commands: [CONVERT] }],
  getCanvasMenuItems: () => [null, item()],
  getNodeMenuItems: (node) => (isEncoder(node) ? [item()] : []),
})
