import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { DRAFT_SOURCE, FINISH } from '../../gpu-node/engine/engine-events.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { NodeMetrics } from '../../gpu-node/observe/node-metrics.ts'
import { RequestLog } from '../../gpu-node/observe/request-log.ts'
import type { RequestRecord } from '../../gpu-node/requests/request-watch.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import type { DoneEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Speculation } from '../../shared/protocol/speculation.ts'
import { recorded } from '../support/logs.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const { HEADS, NGRAM } = DRAFT_SOURCE

let folder: TinyFolder
beforeAll(() => {
  folder = tinyCheckpoint()
})
afterAll(() => folder.remove())

let batches: NodeBatch[]
beforeEach(() => {
  batches = []
})

const open = () => scriptedRunner(folder)

const REQUEST = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], seed: 1 }

function start(runner: Runner, more: Partial<GenerateRequest> = {}, log: readonly NodeBatch[] = []) {
  return runner.start('s', { ...REQUEST, ...more }, (batch) => batches.push(batch), { log })
}

function done(): DoneEvent {
  const last = batches.at(-1)?.events.at(-1)
  if (last?.type !== 'done') throw new Error(`the last event is ${JSON.stringify(last)}`)
  return last
}

describe('the usage of a request', () => {
  test('has what its heads and n-grams drafted, and their sums', async () => {
    const { runner, engine } = await open()
    await start(runner)
    engine.tokens(1, 0, Buffer.from('abc')).deliver()
    engine.end(1, 0).drafts(1, HEADS, 0, 9, 7).drafts(1, HEADS, 2, 5, 1).drafts(1, NGRAM, 0, 4, 4)
    engine.finish(1).deliver()
    expect(done().usage).toMatchObject({
      completion_tokens: 3,
      apar: {
        speculation: {
          ...{ drafted: 18, accepted: 12 },
          heads: [
            { drafted: 9, accepted: 7 },
            { drafted: 0, accepted: 0 },
            { drafted: 5, accepted: 1 },
          ],
          ngram: { drafted: 4, accepted: 4 },
        },
      },
    })
  })

  test('says nothing of speculation when nothing was drafted', async () => {
    const { runner, engine } = await open()
    await start(runner)
    engine.tokens(1, 0, Buffer.from('abc')).end(1, 0).finish(1).deliver()
    expect(done().usage).not.toHaveProperty('apar')
  })

  test('counts a source that this version does not know in the totals', async () => {
    const { runner, engine } = await open()
    await start(runner)
    engine.tokens(1, 0, Buffer.from('a')).end(1, 0).drafts(1, 77, 3, 6, 2).finish(1).deliver()
    expect(done().usage.apar).toEqual({ speculation: { drafted: 6, accepted: 2 } })
  })

  test.each([
    ['that was cancelled', {}, FINISH.ABORT],
    [
      'that a stop string in document order has ended',
      { stop: ['b'], stop_scope: 'document' as const },
      FINISH.ABORT,
    ],
  ])('%s has its drafts', async (_, more, reason) => {
    const { runner, engine } = await open()
    await start(runner, more)
    engine.tokens(1, 0, Buffer.from('abc')).deliver()
    engine.end(1, 0, reason).drafts(1, NGRAM, 0, 3, 2).finish(1, reason).deliver()
    expect(done().usage.apar).toEqual({
      speculation: { drafted: 3, accepted: 2, ngram: { drafted: 3, accepted: 2 } },
    })
  })

  test('does not mix the drafts of two requests', async () => {
    const { runner, engine } = await open()
    await start(runner)
    const others: NodeBatch[] = []
    await runner.start('t', REQUEST, (batch) => others.push(batch))
    engine.tokens(1, 0, Buffer.from('a')).end(1, 0).drafts(2, NGRAM, 0, 3, 2).finish(1).finish(2).deliver()
    expect(done().usage).not.toHaveProperty('apar')
    expect(others.at(-1)?.events.at(-1)).toMatchObject({ usage: { apar: { speculation: { drafted: 3 } } } })
  })
})

test('drafts are no text: no delta, no progress, no branch', async () => {
  const { runner, engine } = await open()
  await start(runner)
  engine.drafts(1, HEADS, 1, 9, 7).deliver()
  engine.tokens(1, 0, Buffer.from('a')).end(1, 0).drafts(1, HEADS, 0, 1, 1).finish(1).deliver()
  const events = batches.flatMap((batch) => batch.events)
  expect(events.map(({ type }) => type)).toEqual(['accepted', 'delta', 'branch_end', 'done'])
  expect(done().usage).toMatchObject({ completion_tokens: 1, branches: [{ branch: 0 }] })
})

test('a node that continues a stream adds its drafts to those in the log', async () => {
  const first = await open()
  await start(first.runner)
  first.engine.tokens(1, 0, Buffer.from('a')).drafts(1, HEADS, 0, 5, 3).drafts(1, HEADS, 1, 5, 1).deliver()
  const log = batches
  batches = []
  const second = await open()
  await start(second.runner, {}, log)
  expect(second.engine.submitted[0]?.branches?.[0]?.tokens).toEqual(Int32Array.of(97))
  second.engine.tokens(1, 0, Buffer.from('b')).end(1, 0)
  second.engine.drafts(1, HEADS, 0, 2, 2).drafts(1, NGRAM, 0, 4, 1).finish(1).deliver()
  expect(done().usage).toMatchObject({
    completion_tokens: 2,
    apar: {
      speculation: {
        ...{ drafted: 16, accepted: 7 },
        heads: [
          { drafted: 7, accepted: 5 },
          { drafted: 5, accepted: 1 },
        ],
        ngram: { drafted: 4, accepted: 1 },
      },
    },
  })
})

test.each<[asked: Speculation | undefined, used: Speculation]>([
  [undefined, 'auto'],
  ['auto', 'auto'],
  ['off', 'off'],
  ['medusa', 'medusa'],
  ['ngram', 'ngram'],
])('a request with %s reaches the engine with %s', async (speculation, used) => {
  const { runner, engine } = await open()
  await start(runner, speculation === undefined ? {} : { speculation })
  expect(engine.submitted[0]?.speculation).toBe(used)
})

test('an engine is opened with the option of its node', () => {
  const checkpoint = readCheckpoint(folder.path)
  expect(toEngineConfig(checkpoint, {}).speculation).toBe('auto')
  expect(toEngineConfig(checkpoint, { speculation: 'off' }).speculation).toBe('off')
})

describe('drafted and accepted tokens', () => {
  test('are counters by source', async () => {
    const { runner, engine } = await open()
    const metrics = new NodeMetrics(runner)
    engine.draftedTokens = { medusa: 50, ngram: 8 }
    engine.acceptedTokens = { medusa: 30, ngram: 0 }
    const text = await metrics.registry.metrics()
    const series = text.split('\n').filter((line) => /^apar_(drafted|accepted)_tokens_total/.test(line))
    expect(series.map((line) => line.replace(',model_name="tiny"', '')).sort()).toEqual([
      'apar_accepted_tokens_total{source="medusa"} 30',
      'apar_accepted_tokens_total{source="ngram"} 0',
      'apar_drafted_tokens_total{source="medusa"} 50',
      'apar_drafted_tokens_total{source="ngram"} 8',
    ])
  })

  test('of each head are counters by head', async () => {
    const { runner, engine } = await open()
    const metrics = new NodeMetrics(runner)
    runner.observe(metrics)
    for (const id of [1, 2]) {
      await start(runner)
      engine.tokens(id, 0, Buffer.from('a')).end(id, 0)
      engine.drafts(id, HEADS, 0, 5, 3).drafts(id, HEADS, 1, 4, 1).finish(id).deliver()
    }
    const text = await metrics.registry.metrics()
    const series = text.split('\n').filter((line) => /^apar_head_/.test(line))
    expect(series.map((line) => line.replace(',model_name="tiny"', '')).sort()).toEqual([
      'apar_head_accepted_tokens_total{head="0"} 6',
      'apar_head_accepted_tokens_total{head="1"} 2',
      'apar_head_drafted_tokens_total{head="0"} 10',
      'apar_head_drafted_tokens_total{head="1"} 8',
    ])
  })

  test("are in the record and in the log's line of a request", async () => {
    const { runner, engine } = await open()
    const records: RequestRecord[] = []
    const logs = recorded()
    runner.observe({ ended: (record) => records.push(record) })
    runner.observe(new RequestLog(logs.log))
    await start(runner)
    engine.tokens(1, 0, Buffer.from('a')).end(1, 0).drafts(1, NGRAM, 0, 6, 2).finish(1).deliver()
    expect(records[0]?.speculation).toMatchObject({ drafted: 6, accepted: 2 })
    expect(logs.entries().at(-1)).toMatchObject({ drafted_tokens: 6, accepted_tokens: 2 })
  })
})
