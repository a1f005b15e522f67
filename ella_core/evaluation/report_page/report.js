// The report's page: scores, categories, and prompts that can be sorted and searched.
const report = window.REPORT
const PAGE = 25 // prompts that are drawn at once
const two = report.runs.length === 2
const byId = id => document.getElementById(id)

/** An element with attributes and children; texts are never read as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes)
  made.append(...children)
  return made
}

const scaled = value => (report.percent ? value.toFixed(2) : value.toFixed(4))
const share = value => scaled(report.percent ? 100 * value : value)
const withEnds = ({ value, low, high }) => `${scaled(value)} (${scaled(low)} to ${scaled(high)})`

function row(tag, ...cells) {
  return element("tr", {}, ...cells.map(cell => element(tag, {}, cell)))
}

function drawScores() {
  const table = element("table", {}, row("th", "", ...report.runs.map(run => run.name)))
  const line = (name, read) => table.append(row("td", name, ...report.runs.map(read)))
  line("judge", run => run.judge || "not named")
  line("protocol", () => report.protocol)
  line("prompts", run => String(run.prompts))
  line("score, mean over prompts (95 % interval)", run => withEnds(run.score))
  line("answers neither yes nor no", run => String(run.unclear))
  line("prompts dropped, as by the published script", run => Object.keys(run.failed).join(", "))
  byId("scores").append(table)
  if (two)
    byId("scores").append(
      element(
        "p",
        { id: "difference" },
        `${report.runs[1].name} minus ${report.runs[0].name}, over the ${report.items.length} ` +
          `prompts of both: ${withEnds(report.difference)}`
      )
    )
}

function bar(run, entry, index) {
  const full = report.percent ? 100 : 1
  const filled = element("div", { className: `filled run${index}` })
  filled.style.width = `${(100 * entry.value) / full}%`
  const track = element("div", { className: "track", title: run.name }, filled)
  return element("div", { className: "bar" }, track, withEnds(entry))
}

function drawCategories() {
  const section = byId("categories")
  for (const [level, title] of [["l1", "Level 1"], ["l2", "Level 2"]]) {
    const names = Object.keys(report.runs[0][level])
    if (!names.length) continue
    section.append(element("h2", {}, title), element("p", {}, report.runs[0].note))
    const table = element("table", { className: "bars" })
    for (const name of names) {
      const bars = report.runs.flatMap((run, index) =>
        run[level][name] ? [bar(run, run[level][name], index)] : []
      )
      table.append(element("tr", {}, element("td", {}, name), element("td", {}, ...bars)))
    }
    section.append(table)
  }
}

function drawPublished() {
  const table = element("table", {}, row("th", "model", "scores", "judge", "protocol", "source"))
  for (const entry of report.published) {
    const scores = Object.entries(entry.scores).map(([name, value]) => `${name} ${value}`)
    table.append(
      row("td", entry.model, scores.join(", "), entry.judge, entry.protocol, entry.source)
    )
  }
  byId("published").append(
    element("p", {}, "Compare only what has the same judge and protocol."),
    table
  )
}

function answerText(answer) {
  const probability = answer.p_yes === null ? "" : ` ${answer.p_yes.toFixed(2)}`
  const zeroed = answer.zeroed_by.length ? `, zeroed by ${answer.zeroed_by.join(", ")}` : ""
  return `${answer.answer}${probability}${zeroed}`
}

function answerCell(answer) {
  const kind = answer.zeroed_by.length ? "zeroed" : answer.value >= 0.5 ? "yes" : "no"
  return element("td", { className: kind, title: answer.text }, answerText(answer))
}

function drawRun(item, run, index) {
  const { mean, pictures } = item.runs[index]
  const images = pictures.map(({ file, value }) =>
    element(
      "th",
      {},
      element("img", { src: file, loading: "lazy", alt: `${item.id}, ${run.name}` }),
      element("div", {}, share(value))
    )
  )
  const title = element("th", {}, `${run.name}: ${share(mean)}`)
  const table = element("table", { className: "run" }, element("tr", {}, title, ...images))
  for (const { number, text, category } of item.questions) {
    const question = element("td", { title: category }, `${number}. ${text}`)
    const cells = pictures.map(({ answers }) => answerCell(answers[number]))
    table.append(element("tr", {}, question, ...cells))
  }
  return table
}

function drawItem(item) {
  const change = two ? `, change ${share(item.runs[1].mean - item.runs[0].mean)}` : ""
  const means = item.runs.map(({ mean }) => share(mean)).join(" and ")
  return element(
    "article",
    { id: `item-${item.id}` },
    element("h3", {}, `${item.id}: ${means}${change}`),
    element("p", {}, item.prompt),
    element("div", { className: "runs" }, ...report.runs.map((run, i) => drawRun(item, run, i)))
  )
}

const change = item => item.runs[1].mean - item.runs[0].mean
const ORDERS = {
  ...(two && {
    "largest change": (a, b) => Math.abs(change(b)) - Math.abs(change(a)),
    "largest gain": (a, b) => change(b) - change(a),
    "largest loss": (a, b) => change(a) - change(b),
  }),
  "lowest score": (a, b) => a.runs[0].mean - b.runs[0].mean,
  "highest score": (a, b) => b.runs[0].mean - a.runs[0].mean,
  "order of the file": () => 0,
}

let chosen = []
let drawn = 0

function drawMore() {
  const next = chosen.slice(drawn, drawn + PAGE)
  byId("items").append(...next.map(drawItem))
  drawn += next.length
  byId("more").hidden = drawn >= chosen.length
}

function choose() {
  const wanted = byId("filter").value.toLowerCase()
  chosen = report.items
    .filter(({ id, prompt }) => `${id} ${prompt}`.toLowerCase().includes(wanted))
    .sort(ORDERS[byId("sort").value])
  drawn = 0
  byId("items").replaceChildren()
  byId("count").textContent = `${chosen.length} of ${report.items.length} prompts`
  drawMore()
}

byId("sort").append(...Object.keys(ORDERS).map(name => element("option", {}, name)))
byId("sort").addEventListener("change", choose)
byId("filter").addEventListener("input", choose)
byId("more").addEventListener("click", drawMore)
drawScores()
drawCategories()
drawPublished()
choose()
