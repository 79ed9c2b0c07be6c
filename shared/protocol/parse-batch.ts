import { parse, parseJsonText } from '../parse.ts'
import type { DeltaEvent } from './events.ts'
import { NodeBatch } from './node.ts'

/**
 * Same result as `parseJson(NodeBatch, text)`. The most frequent case, a batch with only short deltas, is checked
 * by hand: the schema would take a fifth of the edge's time on it, because a Worker may not compile schemas.
 * @throws AparError `invalid_json`, `invalid_request`.
 */
export function parseBatch(text: string): NodeBatch {
  const value = parseJsonText(text)
  return hasOnlyDeltas(value) ? value : parse(NodeBatch, value)
}

function hasOnlyDeltas(value: unknown): value is NodeBatch {
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
