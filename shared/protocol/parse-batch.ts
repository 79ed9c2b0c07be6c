import { parse, parseJsonText } from '../parse.ts'
import type { DeltaEvent } from './events.ts'
import { NodeBatch } from './node.ts'

/**
 * As `parseJson(NodeBatch, text)`. What comes with every token, a batch of nothing but short deltas, is looked at by hand:
 * the schema takes a fifth of the edge's time on it, because a worker may not compile schemas.
 * @throws AparError `invalid_json`, `invalid_request`.
 */
export function parseBatch(text: string): NodeBatch {
  const value = parseJsonText(text)
  return isOfDeltas(value) ? value : parse(NodeBatch, value)
}

function isOfDeltas(value: unknown): value is NodeBatch {
  if (!isObjectOf(2, value)) return false
  const { rows, events } = value
  if (!Array.isArray(rows) || !Array.isArray(events) || events.length === 0) return false
  return rows.every(Number.isSafeInteger) && events.every(isDelta)
}

function isDelta(value: unknown): value is DeltaEvent {
  if (!isObjectOf(4, value)) return false
  const { type, seq, branch, text } = value
  return (
    type === 'delta' &&
    isCount(seq) &&
    isCount(branch) &&
    branch < 2 ** 31 &&
    typeof text === 'string' &&
    text !== ''
  )
}

function isObjectOf(keys: number, value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.keys(value).length === keys
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
