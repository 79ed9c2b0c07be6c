import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AparError } from '../../shared/errors.ts'
import { PROTOCOL_VERSION } from '../../shared/protocol/events.ts'
import { differences, formatFingerprint } from '../../shared/protocol/fingerprint.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import type { Engine } from '../engine/engine.ts'
import { GRAMMAR_FOLDER } from '../engine/engine-files.ts'

/**
 * Raise it when the same checkpoint gives other answers than before, or a prompt other tokens: nodes of both versions
 * then do not continue each other's streams (ADR 26). 2: rotary frequencies are rounded to f32 at each step (ADR 33),
 * and raw prompts begin with their tokenizer's own space. 3: weights of a draw are computed by a polynomial, and tied
 * heads are packed from the decoded embedding. 4: penalties leave [Fork] and [Child] alone.
 */
export const ARITHMETIC_VERSION = 4

/**
 * The same for answers that must match something: raise it when a format gets another grammar, or its members other
 * branches. The version of the grammar engine counts by itself.
 */
const GRAMMAR_VERSION = 1

/** `formats`: whether answers can have one; without, of an answer that has none. */
export function fingerprintOf(
  { digest }: Pick<Checkpoint, 'digest'>,
  { device, dtype, kvCacheDtype }: Engine['info'],
  formats: boolean,
): string {
  return formatFingerprint({
    // In this part, because the device is not compared.
    checkpoint: `${digest}.${ARITHMETIC_VERSION}`,
    dtype,
    kv_cache_dtype: kvCacheDtype,
    device: hash([PROTOCOL_VERSION, device]),
    ...(formats && { grammar: hash([GRAMMAR_VERSION, grammarEngine()]) }),
  })
}

/** @throws AparError `model_changed` when the log was written with other weights, another numeric type or grammar. */
export function requireSameModel(log: readonly NodeBatch[], fingerprint: string): void {
  const first = log[0]?.events[0]
  if (first?.type !== 'accepted') return
  const differing = differences([first.fingerprint, fingerprint])
  if (differing.length > 0)
    throw new AparError('model_changed', `this gpu node's model differs in ${differing.join(', ')}`)
}

/** What says which versions of the libraries these are (cli/setup/grammar-engine.mjs). */
function grammarEngine(): string {
  const file = join(GRAMMAR_FOLDER, 'complete')
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

function hash(values: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(values)).digest('hex').slice(0, 4)
}
