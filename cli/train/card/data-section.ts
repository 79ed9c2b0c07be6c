import { basename } from 'node:path'
import { z } from 'zod'
import { markdownTable } from './markdown-table.ts'

/** Of report.json, what a reader of the card should know; training/data/build.ts writes it. */
const Report = z.object({
  profile: z.object({ name: z.string() }),
  context: z.number(),
  inputs: z.array(z.object({ name: z.string() })),
  conversations: z.number(),
  structured: z.record(z.string(), z.number()),
  unstructured: z.number(),
  leftOut: z.number(),
  branches: z.number(),
  heldOut: z.object({ all: z.number(), structured: z.number() }),
})

/** What the model was trained on, as `apar data build` has counted it; empty for data of another tool. */
export function dataSection(report: unknown): string {
  const found = Report.safeParse(report).data
  if (!found) return ''
  const { profile, inputs, structured, heldOut } = found
  const rows: [string, string][] = [
    ['sources', inputs.map(({ name }) => basename(name)).join(', ')],
    ['conversations', count(found.conversations)],
    ...Object.entries(structured).map(([kind, number]): [string, string] => [
      `structured: ${kind}`,
      count(number),
    ]),
    ['branches', count(found.branches)],
    ['unstructured', count(found.unstructured)],
    ['left out', count(found.leftOut)],
    ['held out', `${count(heldOut.all)}, ${count(heldOut.structured)} of them structured`],
    ['rules', `profile ${profile.name}`],
    ['longest path', `${count(found.context)} tokens`],
  ]
  return `## Data\n\nMade by \`apar data build\`:\n\n${markdownTable(['', ''], rows)}`
}

function count(number: number): string {
  return number.toLocaleString('en')
}
