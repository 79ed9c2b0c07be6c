import { afterEach, beforeEach, expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { FINISH } from '../../gpu-node/engine/engine-events.ts'
import type { RequestRecord } from '../../gpu-node/requests/request-watch.ts'
import { Runner } from '../../gpu-node/requests/runner.ts'
import { type Reader, ServedStreams } from '../../gpu-node/requests/served-streams.ts'
import type { Prompts } from '../../gpu-node/text/prompt-pool.ts'
import { AparError } from '../../shared/errors.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { inlinePrompts } from '../support/inline-prompts.ts'
import { ScriptedEngine } from '../support/scripted-engine.ts'
import { SPECIAL, type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

/** A prompt that is encoded when the test says so. */
interface Encoding {
  finish(): void
  fail(error: unknown): void
  readonly signal: AbortSignal | undefined
}

let folder: TinyFolder
let engine: ScriptedEngine
let runner: Runner
let streams: ServedStreams
let encodings: Encoding[]
let records: RequestRecord[]
beforeEach(async () => {
  folder = tinyCheckpoint()
  encodings = []
  records = []
  const checkpoint = readCheckpoint(folder.path)
  const inline = inlinePrompts(checkpoint)
  const prompts: Prompts = {
    ...inline,
    get waiting() {
      return encodings.length
    },
    encode: (prompt, maxTokens, { signal } = {}) =>
      new Promise((resolve, reject) => {
        encodings.push({ finish: () => resolve(inline.encode(prompt, maxTokens)), fail: reject, signal })
        signal?.addEventListener('abort', () => reject(new AparError('connection_closed', 'cancelled')))
      }),
  }
  runner = await Runner.open({
    ...{ model: 'tiny', checkpoint, prompts, maxBranches: 8 },
    openEngine: async (onEvents) => {
      engine = new ScriptedEngine(onEvents)
      return engine
    },
  })
  runner.observe({ ended: (record) => records.push(record) })
  streams = new ServedStreams(runner, 60_000)
})
afterEach(() => folder.remove())

const REQUEST = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }] }

function reader() {
  const events: StreamEvent[] = []
  const calls: string[] = []
  const of: Reader = {
    send: (batch) => events.push(...batch.events),
    disconnect: () => calls.push('disconnected'),
    complete: () => calls.push('complete'),
    refuse: (error) => calls.push(error instanceof AparError ? error.code : String(error)),
  }
  return { of, events, calls }
}
const types = (events: readonly StreamEvent[]) => events.map(({ type }) => type)
const settled = () => new Promise(setImmediate)

test('a stream exists while its prompt is being encoded: another socket can attach to it', async () => {
  const first = reader()
  const second = reader()
  streams.start('s', REQUEST, [], first.of)
  streams.attach('s', -1, second.of)
  encodings[0]?.finish()
  await settled()
  expect(first).toMatchObject({ events: [], calls: ['disconnected'] })
  expect(types(second.events)).toEqual(['accepted'])
})

test('a cancel meanwhile ends the stream as aborted, without the engine', async () => {
  const { of, events } = reader()
  streams.start('s', REQUEST, [], of).cancel()
  expect(encodings[0]?.signal?.aborted).toBe(true)
  await settled()
  expect(types(events)).toEqual(['accepted', 'branch_end', 'done'])
  expect(events.at(-1)).toMatchObject({ reason: 'abort', usage: { prompt_tokens: 0, total_tokens: 0 } })
  expect(engine.submitted).toEqual([])
  expect(records).toMatchObject([{ outcome: 'abort', promptTokens: 0 }])
})

test('a cancel meanwhile ends all branches of a stream that has moved here', async () => {
  const log: NodeBatch[] = []
  const before = runner.start('s', REQUEST, (batch) => log.push(batch))
  encodings[0]?.finish()
  await before
  engine.tokens(1, 0, [97, SPECIAL['[Fork]']]).fork(1, 0, 1).tokens(1, 1, [SPECIAL['[Child]'], 98]).deliver()
  engine.end(1, 1, FINISH.STOP).deliver()
  const { of, events } = reader()
  streams.start('t', REQUEST, log, of).cancel()
  await settled()
  expect(events).toMatchObject([
    { type: 'branch_end', branch: 0, reason: 'abort' },
    { type: 'done', reason: 'abort' },
  ])
})

test('a cancel of a branch meanwhile reaches the engine', async () => {
  const { of } = reader()
  const served = streams.start('s', REQUEST, [], of)
  served.cancelBranch(2)
  encodings[0]?.finish()
  await settled()
  expect(engine.calls).toEqual(['abort 1/2'])
})

test('a request whose prompt is being encoded waits, for the edge, the metrics and /healthz', () => {
  streams.start('s', REQUEST, [], reader().of)
  expect(runner.stats()).toMatchObject({ runningRequests: 0, waitingRequests: 1 })
})

test('a refusal goes to the reader, and the stream is forgotten', async () => {
  const { of, events, calls } = reader()
  streams.start('s', REQUEST, [], of)
  encodings[0]?.fail(new AparError('context_length_exceeded', 'too long'))
  await settled()
  expect(events).toEqual([])
  expect(calls).toEqual(['context_length_exceeded'])
  expect(() => streams.attach('s', -1, of)).toThrow(expect.objectContaining({ code: 'stream_not_found' }))
})

test('a drain waits for prompts that are being encoded', async () => {
  const { of } = reader()
  streams.start('s', REQUEST, [], of)
  let drained = false
  const draining = streams.drain(60_000).then(() => {
    drained = true
  })
  await settled()
  expect(drained).toBe(false)
  encodings[0]?.fail(new AparError('invalid_request', 'no'))
  await draining
})
