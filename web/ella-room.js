// Makes room on the canvas for new nodes: what stands in the way moves aside, groups grow.

const TITLE = 30 // px above a node's position
export const GAP = 40

// Left, top, right and bottom with the title. What the editor keeps of it is as old as the last draw.
export function boxOf({ pos, size, flags }) {
  const height = flags?.collapsed ? 0 : size[1]
  return [pos[0], pos[1] - TITLE, pos[0] + size[0], pos[1] + height]
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

function boxAt([x, y], [width, height]) {
  return [x, y - TITLE, x + width, y + height]
}

function inTheWay(node, pos) {
  const box = boxAt(pos, node.size)
  return node.graph.nodes.filter((other) => other !== node && overlap(box, boxOf(other)))
}

function shifted(pos, axis, by) {
  return axis === 0 ? [pos[0] + by, pos[1]] : [pos[0], pos[1] + by]
}

// Move everything that begins at or behind a line, on the axis 0 (x) or 1 (y).
export function openUp(graph, axis, at, by, except = []) {
  for (const node of graph.nodes) {
    if (except.includes(node) || boxOf(node)[axis] < at) continue
    node.pos = shifted(node.pos, axis, by)
  }
  for (const group of graph.groups) {
    if (group.pos[axis] >= at) group.pos = shifted(group.pos, axis, by)
    else if (group.pos[axis] + group.size[axis] > at) group.size = shifted(group.size, axis, by)
  }
  for (const point of [...graph.reroutes.values(), graph.inputNode, graph.outputNode]) {
    if (point && point.pos[axis] >= at) point.pos = shifted(point.pos, axis, by)
  }
}

// Put a node to the right of a line at a height, where a column is opened for it if it has to be.
export function placeRight(node, x, y) {
  const pos = [x + GAP, y]
  if (inTheWay(node, pos).length) openUp(node.graph, 0, x, node.size[0] + GAP, [node])
  placeBelow(node, ...pos)
}

// Put a node to the left of what begins at a line, likewise.
export function placeLeft(node, x, y) {
  const pos = [x - GAP - node.size[0], y]
  if (!inTheWay(node, pos).length) node.pos = pos
  else {
    openUp(node.graph, 0, x, node.size[0] + 2 * GAP, [node])
    placeBelow(node, x + GAP, y)
  }
}

// Put a node where it covers no other, as high as it can be below a point.
function placeBelow(node, x, y) {
  let others
  while ((others = inTheWay(node, [x, y])).length) {
    y = Math.max(...others.map((other) => boxOf(other)[3])) + GAP + TITLE
  }
  node.pos = [x, y]
}

// Put nodes side by side above everything else, their left edge at x.
export function placeAbove(nodes, x) {
  const { graph } = nodes[0]
  const others = graph.nodes.filter((node) => !nodes.includes(node))
  const top = Math.min(...others.map((node) => boxOf(node)[1]), ...graph.groups.map((g) => g.pos[1]))
  const height = Math.max(...nodes.map(({ size }) => size[1]))
  for (const node of nodes) {
    node.pos = [x, top - GAP - height]
    x += node.size[0] + GAP
  }
}
