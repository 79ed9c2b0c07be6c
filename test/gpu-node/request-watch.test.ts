import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { NodeMetrics } from '../../gpu-node/observe/node-metrics.ts'
import type { RequestRecord } from '../../gpu-node/requests/request-watch.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { StreamLog } from '../../shared/stream-log.ts'
import type { ScriptedEngine } from '../support/scripted-engine.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
let runner: Runner
let engine: ScriptedEngine
let metrics: NodeMetrics
let records: RequestRecord[]
let tokenCounts: number[]

beforeEach(async () => {
  folder = tinyCheckpoint()
  ;({ runner, engine } = await scriptedRunner(folder))
  metrics = new NodeMetrics(runner)
  records = []
  tokenCounts = []
  runner.observe(metrics)
  runner.observe({
    ended: (record) => records.push(record),
    interTokenLatency: (_, tokens) => tokenCounts.push(tokens),
  })
})
afterEach(() => {
  vi.useRealTimers()
  folder.remove()
})

const REQUEST = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }] }

function start(log: readonly NodeBatch[] = []) {
  return runner.start('s', REQUEST, () => {}, { log })
}

async function timesToFirstToken(): Promise<{ count: number; sum: number }> {
  const text = await metrics.registry.metrics()
  const value = (name: string) =>
    Number(new RegExp(`^apar_time_to_first_token_seconds_${name}{.*} (.*)$`, 'm').exec(text)?.[1])
  return { count: value('count'), sum: value('sum') }
}

test('observes the time to first token once, when the token arrives', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  await start()
  vi.advanceTimersByTime(2_000)
  engine.tokens(1, 0, Buffer.from('a')).deliver()
  expect(await timesToFirstToken()).toEqual({ count: 1, sum: 2 })
  vi.advanceTimersByTime(3_000)
  engine.tokens(1, 0, Buffer.from('b')).deliver()
  engine.end(1, 0).finish(1).deliver()
  expect(await timesToFirstToken()).toEqual({ count: 1, sum: 2 })
  expect(records.map(({ arrivedAt, firstTokenAt = 0 }) => firstTokenAt - arrivedAt)).toEqual([2_000])
  expect(tokenCounts).toEqual([1])
})

test('observes no time to first token for a request without tokens', async () => {
  await start()
  engine.end(1, 0).finish(1).deliver()
  expect(records[0]).toMatchObject({ completionTokens: 0, firstTokenAt: undefined })
  expect(await timesToFirstToken()).toEqual({ count: 0, sum: 0 })
})

test('observes the time to first token by tenant, of a bounded number of tenants', async () => {
  const tenantsAfter = async (count: number) => {
    for (let tenant = 0; tenant < count; tenant++) metrics.timeToFirstToken(20, `t${tenant}`)
    const text = await metrics.registry.metrics()
    return [...text.matchAll(/^apar_tenant_time_to_first_token_seconds_count{.*tenant="(\w+)".*}/gm)].map(
      ([, tenant]) => tenant,
    )
  }
  await runner.start('s', REQUEST, () => {}, { tenant: { id: 'abc', weight: 1, priority: 0 } })
  engine.tokens(1, 0, Buffer.from('a')).deliver()
  await start()
  engine.tokens(2, 0, Buffer.from('a')).deliver()
  expect(await tenantsAfter(0)).toEqual(['abc', 'none'])
  const many = await tenantsAfter(100)
  expect(many).toHaveLength(64)
  expect(many).toContain('t99')
  expect(many).not.toContain('t0')
})

test('ignores tokens of another gpu node for the time to first token', async () => {
  const log = new StreamLog()
  await runner.start('s', REQUEST, (batch) => log.append(batch))
  engine.tokens(1, 0, Buffer.from('abc')).deliver()
  expect((await timesToFirstToken()).count).toBe(1)
  await start(log.batchesSince(-1))
  engine.end(2, 0).finish(2).deliver()
  expect(records[0]).toMatchObject({ moved: true, completionTokens: 3, firstTokenAt: undefined })
  await start(log.batchesSince(-1))
  engine.tokens(3, 0, Buffer.from('d')).deliver()
  engine.tokens(3, 0, Buffer.from('ef')).deliver()
  engine.end(3, 0).finish(3).deliver()
  expect(records[1]).toMatchObject({ completionTokens: 6, firstTokenAt: expect.any(Number) })
  expect((await timesToFirstToken()).count).toBe(2)
  expect(tokenCounts).toEqual([2])
})
