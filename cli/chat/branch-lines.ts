import { stripVTControlCharacters } from 'node:util'
import type { Branch, BranchTree } from '../../shared/branch-tree.ts'

/** One line per branch with the end of its text, at most `rows` lines of `columns`. */
export function branchLines(tree: BranchTree, columns: number, rows: number): string[] {
  const branches = inDocumentOrder(tree)
  const room = Math.max(1, rows)
  if (branches.length <= room) return branches.map((branch) => branchLine(branch, columns))
  // If there are too many, branches that have ended are left out first.
  const growing = branches.filter(({ reason }) => reason === undefined)
  const shown = (growing.length > 0 ? growing : branches).slice(0, room - 1)
  return [
    ...shown.map((branch) => branchLine(branch, columns)),
    `  ... ${branches.length - shown.length} more`,
  ]
}

function inDocumentOrder(tree: BranchTree): Branch[] {
  const order: Branch[] = []
  const visit = (id: number) => {
    const branch = tree.branch(id)
    if (!branch) return
    order.push(branch)
    for (const child of branch.children) visit(child)
  }
  visit(0)
  return order
}

const MARKS = { stop: '✓', length: '…', abort: '✗', error: '!' } as const

function branchLine(branch: Branch, columns: number): string {
  const mark = branch.reason === undefined ? '▸' : MARKS[branch.reason]
  const head = `${'  '.repeat(branch.depth - 1)}${mark} ${branch.id} `
  const room = Math.max(0, columns - 1 - head.length)
  const text = plain(branch.text)
  return head + (text.length <= room ? text : `…${text.slice(text.length - room + 1)}`)
}

/** Text without control characters and line breaks. */
export function plain(text: string): string {
  return printable(text).replace(/\s+/g, ' ').trimStart()
}

/** Text without terminal control sequences; line breaks and tabs stay. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the point
  return stripVTControlCharacters(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '')
}
