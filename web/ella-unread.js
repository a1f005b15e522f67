// Finds in a prompt what other interfaces read in a way of their own, and ELLA's nodes don't.

import { t } from "./ella-texts.js"

// Each with what to do instead.
const UNREAD = [
  [/<lora:[^>]*>/i, () => t("use a LoRA loader")],
  [/\bembedding:\S+/i, () => t("CLIP alone reads it: clip_text, or CLIP Text Encode")],
  [/\[[^\[\]]*:[^\[\]]*:\s*[\d.]+\s*\]/, () => t("use ConditioningSetTimestepRange")],
  [/\bBREAK\b/, () => t("use long_prompt chunk, or Conditioning (Concat)")],
  [/(?<!\\)\(\([^()]*(?<!\\)\)\)/, () => t("write (words:1.2)")],
  [/__[\w*\/-]+__/, () => t("put the words in, or use a wildcard node")],
]

// Return a sentence for each kind that is in the text.
export function unread(text) {
  return UNREAD.flatMap(([pattern, remedy]) => {
    const found = pattern.exec(text)?.[0]
    if (!found) return []
    const words = found.length > 20 ? `${found.slice(0, 19)}…` : found
    return [t("“<words>” is read as plain words: <remedy>", { words, remedy: remedy() })]
  })
}
