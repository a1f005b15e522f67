// Puts token counts and reports into words, in the editor's language.

import { t } from "./ella-texts.js"

// A token count of the server's, or what a run found ("prompt"), which knows no limit.
export function countWords({
  tokens,
  limit,
  about,
  chunks,
  chunk_length,
  dropped,
  over,
  beyond,
  weighted,
  windows,
}) {
  const n = about ? t("about <n>", { n: tokens }) : tokens
  const count = tokens === 1 ? t("<n> token", { n }) : t("<n> tokens", { n })
  const parts = [count]
  if (chunks > 1) {
    const values = { n, chunks, length: chunk_length }
    parts[0] = t("<n> tokens in <chunks> chunks of at most <length>", values)
  } else if (dropped) {
    const from = t("<n> cut off, from “<words>”", { n: dropped, words: beyond })
    parts.push(beyond ? from : t("<n> cut off", { n: dropped }))
  } else if (over) {
    const before = t("the trained <limit> end before “<words>”", { limit, words: beyond })
    parts.push(beyond ? before : t("the trained <limit> end", { limit }))
  } else if (limit) {
    parts[0] = t("<n> of <limit> tokens", { n, limit })
  }
  if (weighted) parts.push(t("<n> weighted", { n: weighted }))
  if (windows > 1) parts.push(t("read in <n> pieces, which don't know of each other", { n: windows }))
  return parts.join(" · ")
}

// A report of a run; see ella_core/comfy/editor/events.py. What only a download says is English.
export function reportWords(report) {
  switch (report.kind) {
    case "loading":
      return t("loading the LLM <llm> ...", report)
    case "reading":
      return t("reading: <done> of <of> pieces done", report)
    case "prompt":
      return countWords(report)
    case "connector":
      return [
        promptWords(report.prompts),
        passWords(report),
        ...(report.long ? [lengthWords(report.long)] : []),
      ].join("\n")
    case "long":
      return lengthWords(report)
    case "frozen":
      return t(
        "An ELLA conditioning stays at one timestep for this whole run: a node between it and the sampler has replaced its tokens by others. Leave that node out.",
      )
    default:
      return report.text
  }
}

function lengthWords(long) {
  return t(
    "<tokens> tokens: the connector <connector> was trained on <trained> and has not seen longer prompts",
    long,
  )
}

function promptWords(prompts) {
  const [first, second] = prompts.map(({ tokens }) => tokens.join(" + "))
  if (second) return t("positive <first>, negative <second> tokens", { first, second })
  return first === "1" ? t("<n> token", { n: first }) : t("<n> tokens", { n: first })
}

function passWords({ passes, timesteps, milliseconds }) {
  if (!passes) return t("connector: nothing to compute, all kept")
  const values = {
    passes: passes === 1 ? t("<n> pass", { n: passes }) : t("<n> passes", { n: passes }),
    timesteps:
      timesteps === 1 ? t("<n> timestep", { n: timesteps }) : t("<n> timesteps", { n: timesteps }),
    time: milliseconds < 100 ? `${milliseconds} ms` : `${(milliseconds / 1000).toFixed(2)} s`,
  }
  return t("connector: <passes> for <timesteps>, <time>", values)
}
