import type { Example, Segment } from '../encode/tree.ts'

/** Label of a token outside the loss; the default ignore_index of PyTorch's cross-entropy. */
export const MASKED = -100

/** A row as TRL and axolotl take it: `labels[i]` is `input_ids[i]` or MASKED (the model shifts the labels). */
export interface ExportedRow {
  input_ids: number[]
  labels: number[]
}

/**
 * One row per branch: its whole path, of which only the branch's own text is learned. A branch's own text goes on
 * behind a fork in the last child of the segment that ends with it.
 */
export function exportedRows({ segments }: Example): ExportedRow[] {
  const branchOf: number[] = []
  const rows: ExportedRow[] = []
  const lastChild = new Map<number, number>()
  for (const [index, { parent }] of segments.entries()) lastChild.set(parent, index)
  for (const [index, segment] of segments.entries()) {
    const goesOn = segment.parent !== -1 && lastChild.get(segment.parent) === index
    const before = branchOf[segment.parent] ?? -1
    if (goesOn) {
      branchOf[index] = before
      const row = rows[before]
      if (row) append(row, segment)
      continue
    }
    branchOf[index] = rows.length
    const row: ExportedRow = { input_ids: [], labels: [] }
    for (const ancestor of ancestors(segments, segment.parent)) {
      for (const id of segments[ancestor]?.ids ?? []) {
        row.input_ids.push(id)
        row.labels.push(MASKED)
      }
    }
    append(row, segment)
    rows.push(row)
  }
  return rows
}

function append(row: ExportedRow, { ids, learned }: Segment): void {
  const start = row.input_ids.length
  for (const id of ids) {
    row.input_ids.push(id)
    row.labels.push(MASKED)
  }
  for (let run = 0; run < learned.length; run += 2) {
    for (let at = learned[run] ?? 0; at < (learned[run + 1] ?? 0); at += 1)
      row.labels[start + at] = ids[at] ?? MASKED
  }
}

/** From the root on. */
function ancestors(segments: readonly Segment[], from: number): number[] {
  const path: number[] = []
  for (let at = from; at !== -1; at = segments[at]?.parent ?? -1) path.unshift(at)
  return path
}
