import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { FINISH } from '../../gpu-node/engine/engine-events.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { SPECIAL, type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const FORK = SPECIAL['[Fork]']
const CHILD = SPECIAL['[Child]']

let folder: TinyFolder
beforeAll(() => {
  folder = tinyCheckpoint()
})
afterAll(() => folder.remove())

let batches: NodeBatch[]
beforeEach(() => {
  batches = []
})

const REQUEST = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], seed: 1, trace: true }

function start(runner: Runner, more: Partial<GenerateRequest> = {}, log: readonly NodeBatch[] = []) {
  return runner.start('s', { ...REQUEST, ...more }, (batch) => batches.push(batch), { log })
}

const events = (): StreamEvent[] => batches.flatMap((batch) => batch.events)
const steps = (): TraceStep[] => events().flatMap((event) => (event.type === 'trace' ? event.steps : []))
const bytes = (text: string) => Buffer.from(text)

const FIGURES = {
  ROWS: [2, 5],
  BRANCHES: [2, 1],
  BLOCKS: [3, 9],
  TOKENS: [40, 30],
} as Record<'ROWS' | 'BRANCHES' | 'BLOCKS' | 'TOKENS', [number, number]>

describe('a traced request', () => {
  test('gives each step with its tokens, forks, ends and figures, in events of the protocol', async () => {
    const { runner, engine } = await scriptedRunner(folder)
    await start(runner)
    expect(engine.submitted[0]?.trace).toBe(true)
    engine.tokens(1, 0, bytes('a')).step(1, 7, 1500, FIGURES).deliver()
    engine
      .tokens(1, 0, [FORK])
      .fork(1, 0, 1, 12)
      .tokens(1, 1, [CHILD])
      .step(1, 8, 500, { DRAFTS: [4, 1] })
    engine.deliver()
    engine
      .tokens(1, 1, bytes('b'))
      .end(1, 0)
      .step(1, 10, 20)
      .end(1, 1, FINISH.LENGTH)
      .step(1, 10, 1)
      .finish(1)
      .deliver()
    const none = {
      rows: 0,
      batch_rows: 0,
      live: 0,
      sampled: 0,
      blocks: 0,
      used_blocks: 0,
      cached: 0,
      attended: 0,
    }
    expect(steps()).toEqual([
      {
        ...{ step: 7, us: 1500, rows: 2, batch_rows: 5, live: 2, sampled: 1, blocks: 3, used_blocks: 9 },
        ...{ attended: 40, cached: 30, prompt: [...(engine.submitted[0]?.prompt ?? [])] },
        ...{ tokens: [{ branch: 0, ids: [97], text: 'a' }], forks: [], ends: [] },
      },
      {
        ...{ ...none, step: 8, us: 2000, drafted: 4, accepted: 1 },
        tokens: [
          { branch: 0, ids: [FORK], text: '' },
          { branch: 1, ids: [CHILD], text: '' },
        ],
        ...{ forks: [{ branch: 1, parent: 0, position: 12 }], ends: [] },
      },
      {
        ...{ ...none, step: 10, us: 2020, tokens: [{ branch: 1, ids: [98], text: 'b' }] },
        ...{ forks: [], ends: [{ branch: 0, reason: 'stop' }] },
      },
      { ...{ ...none, step: 10, us: 2021, tokens: [], forks: [] }, ends: [{ branch: 1, reason: 'length' }] },
    ])
    for (const event of events()) StreamEvent.parse(event)
    expect(events().map(({ seq }) => seq)).toEqual(events().map((_, index) => index))
    expect(events().at(-1)?.type).toBe('done')
  })

  test('gives the text of a character with its last byte, or at the end of its branch', async () => {
    const { runner, engine } = await scriptedRunner(folder)
    await start(runner)
    const [first = 0, ...rest] = bytes('€')
    engine
      .tokens(1, 0, [first])
      .step(1, 0, 1)
      .tokens(1, 0, rest)
      .step(1, 1, 1)
      .tokens(1, 0, [first])
      .step(1, 2, 1)
    engine.end(1, 0).step(1, 3, 1).finish(1).deliver()
    expect(steps().map(({ tokens }) => tokens.map(({ text }) => text))).toEqual([
      [''],
      ['€'],
      [''],
      ['\ufffd'],
    ])
    expect(events().filter(({ type }) => type === 'delta')).toMatchObject([{ text: '€�' }])
  })

  test('has no trace events unless it asks for them', async () => {
    const { runner, engine } = await scriptedRunner(folder)
    await start(runner, { trace: false })
    engine.tokens(1, 0, bytes('a')).step(1, 7, 1500, FIGURES).end(1, 0).finish(1).deliver()
    expect(engine.submitted[0]?.trace).toBe(false)
    expect(events().map(({ type }) => type)).toEqual(['accepted', 'delta', 'branch_end', 'done'])
  })

  test('goes on at another node: no token is lost or told twice, and time goes on', async () => {
    const first = await scriptedRunner(folder)
    await start(first.runner)
    first.engine.tokens(1, 0, bytes('ab')).step(1, 40, 1000).deliver()
    // The last delivery of the first node has tokens of a step that had not ended.
    first.engine.tokens(1, 0, bytes('c')).deliver()
    const second = await scriptedRunner(folder)
    await start(second.runner, {}, batches)
    expect(second.engine.submitted[0]?.branches?.[0]?.tokens).toEqual(Int32Array.from(bytes('abc')))
    second.engine.tokens(1, 0, bytes('d')).step(1, 2, 300).tokens(1, 0, bytes('e')).step(1, 3, 10)
    second.engine.end(1, 0).step(1, 4, 1).finish(1).deliver()
    const shown = steps().map(({ step, us, moved, tokens }) => [
      step,
      us,
      moved,
      tokens.map(({ text }) => text).join(''),
    ])
    expect(shown).toEqual([
      [40, 1000, undefined, 'ab'],
      [2, 1300, true, 'cd'],
      [3, 1310, undefined, 'e'],
      [4, 1311, undefined, ''],
    ])
    expect(steps().filter(({ prompt }) => prompt)).toHaveLength(1)
  })
})
