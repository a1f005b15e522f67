// Which nodes are this pack's.

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2))

export function isOurs(nodeData) {
  return nodeData?.python_module === `custom_nodes.${PACK}`
}
