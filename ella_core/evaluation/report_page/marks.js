// A person answers the judge's questions. The marks stay in this browser until they are saved.
const { marks: asked } = window.REPORT
const byId = id => document.getElementById(id)
const key = ({ item_id, proposition_id, crop }) => `${item_id}/${proposition_id}/${crop}`
const STORE = `marks ${location.pathname}`
const marks = JSON.parse(localStorage.getItem(STORE) ?? "{}")
let place = 0

/** Go to the next question without a mark, or to the end. */
function goOn() {
  const next = asked.findIndex(question => !(key(question) in marks))
  place = next < 0 ? asked.length : next
  show()
}

function show() {
  const question = asked[place]
  const done = asked.filter(each => key(each) in marks).length
  byId("progress").textContent = `${done} of ${asked.length} marked`
  byId("question").textContent = question?.question ?? "All are marked. Save them."
  byId("picture").hidden = !question
  if (question) byId("picture").src = question.file
}

function mark(answer) {
  if (!asked[place]) return
  marks[key(asked[place])] = answer
  localStorage.setItem(STORE, JSON.stringify(marks))
  goOn()
}

function back() {
  if (place === 0) return
  place -= 1
  delete marks[key(asked[place])]
  localStorage.setItem(STORE, JSON.stringify(marks))
  show()
}

function save() {
  const lines = asked
    .filter(question => key(question) in marks)
    .map(({ item_id, proposition_id, crop, ...question }) =>
      JSON.stringify({ item_id, proposition_id, crop, answer: marks[key({ item_id, proposition_id, crop })], judge: "a person" })
    )
  const url = URL.createObjectURL(new Blob(lines.map(line => `${line}\n`)))
  Object.assign(document.createElement("a"), { href: url, download: "marks.jsonl" }).click()
}

for (const button of document.querySelectorAll("[data-mark]"))
  button.addEventListener("click", () => mark(button.dataset.mark))
byId("back").addEventListener("click", back)
byId("save").addEventListener("click", save)
document.addEventListener("keydown", event => {
  if (event.key === "y") mark("yes")
  else if (event.key === "n") mark("no")
  else if (event.key === "Backspace") back()
})
goOn()
