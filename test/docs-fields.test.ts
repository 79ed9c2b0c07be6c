// The table of docs/api.md against the schemas: each field has a row, and each row says what becomes of the field.
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import type { z } from 'zod'
import { MessagesRequest } from '../shared/anthropic.ts'
import { ChatCompletionRequest, CompletionRequest } from '../shared/openai.ts'
import { treatmentOf } from '../shared/requests/fields.ts'
import { ResponsesRequest } from '../shared/responses.ts'

const APIS: Record<string, Record<string, z.ZodType>> = {
  chat: ChatCompletionRequest.shape,
  completions: CompletionRequest.shape,
  responses: ResponsesRequest.shape,
  messages: MessagesRequest.shape,
}
const NO_FIELD = '–'

/** [field][API] → what becomes of it. */
function schemas(): Record<string, Record<string, string>> {
  const names = new Set(Object.values(APIS).flatMap((shape) => Object.keys(shape)))
  return Object.fromEntries(
    [...names].map((name) => {
      const cells = Object.entries(APIS).map(([api, shape]) => {
        const field = shape[name]
        return [api, field ? (treatmentOf(field) ?? 'done') : NO_FIELD]
      })
      return [name, Object.fromEntries(cells)]
    }),
  )
}

function table(): Record<string, Record<string, string>> {
  const text = readFileSync(new URL('../docs/api.md', import.meta.url), 'utf8')
  const lines = text.slice(text.indexOf('## Field by field')).split('\n')
  const first = lines.findIndex((line) => line.startsWith('| field |'))
  const [head = '', , ...rest] = lines.slice(first)
  const cellsOf = (line: string) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim())
  const apis = cellsOf(head).slice(1)
  const rows = rest
    .slice(
      0,
      rest.findIndex((line) => !line.startsWith('|')),
    )
    .map(cellsOf)
  return Object.fromEntries(
    rows.flatMap(([fields = '', ...cells]) =>
      [...fields.matchAll(/`([^`]+)`/g)].map(([, name = '']) => {
        return [name, Object.fromEntries(apis.map((api, index) => [api, cells[index] ?? '']))]
      }),
    ),
  )
}

it('docs/api.md has each field of each API, done, ignored or refused as its schema says', () => {
  expect(table()).toEqual(schemas())
})
