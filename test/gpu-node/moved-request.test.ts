import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EVENT, FINISH } from '../../gpu-node/engine/engine-events.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { type NodeBatch, ROW_WIDTH } from '../../shared/protocol/node.ts'
import { StreamLog } from '../../shared/stream-log.ts'
import type { ScriptedEngine } from '../support/scripted-engine.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { SPECIAL, type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const FORK = SPECIAL['[Fork]']
const CHILD = SPECIAL['[Child]']

let folder: TinyFolder
beforeAll(() => {
  folder = tinyCheckpoint()
})
afterAll(() => folder.remove())

type Row = [kind: number, branch: number, a: number, b: number]

/** Plausible engine events: text in up to four branches, characters of several bytes, random branch ends. */
const answers = fc
  .array(fc.tuple(fc.nat(3), fc.constantFrom('a', 'é', '€', '𝄞', '\n', 'fork', 'end')), { maxLength: 60 })
  .map((steps) => {
    const rows: Row[] = []
    const length = [0, 0, 0, 0]
    const live = new Set([0])
    let next = 1
    for (const [pick, what] of steps) {
      const branch = [...live][pick % live.size] ?? 0
      const token = (id: number, of = branch) => {
        rows.push([EVENT.TOKEN, of, id, 0])
        length[of] = (length[of] ?? 0) + 1
      }
      if (what === 'fork') {
        if (next > 3) continue
        token(FORK)
        rows.push([EVENT.FORK, branch, next, (length[branch] ?? 0) - 1])
        live.add(next)
        token(CHILD, next++)
      } else if (what === 'end') {
        if (live.size === 1) continue
        rows.push([EVENT.BRANCH_END, branch, FINISH.STOP, 0])
        live.delete(branch)
      } else {
        for (const byte of Buffer.from(what)) token(byte)
      }
    }
    for (const branch of live) rows.push([EVENT.BRANCH_END, branch, FINISH.STOP, 0])
    return rows
  })

const REQUEST = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], seed: 1 }

function script(engine: ScriptedEngine, rows: readonly Row[]): void {
  for (const [kind, branch, a, b] of rows) {
    if (kind === EVENT.TOKEN) engine.tokens(1, branch, [a])
    else if (kind === EVENT.FORK) engine.fork(1, branch, a, b)
    else engine.end(1, branch, a)
  }
}

/** Runs `rows` over several nodes: node i is lost after `cuts[i]` deliveries; `sizes` are the rows per delivery. */
async function runOver(rows: readonly Row[], cuts: readonly number[], sizes: readonly number[]) {
  const log = new StreamLog()
  for (let node = 0; !log.ended; node++) {
    const { runner, engine } = await scriptedRunner(folder)
    const done = log.batchesSince(-1).flatMap((batch) => batch.rows).length / ROW_WIDTH
    await runner.start('s', REQUEST, (batch) => log.append(batch), { log: log.batchesSince(-1) })
    const restored = engine.submitted[0]?.branches ?? []
    let at = done
    for (let delivery = 0; delivery < (cuts[node] ?? Number.POSITIVE_INFINITY); delivery++) {
      const size = sizes[(node + delivery) % sizes.length] ?? 1
      script(engine, rows.slice(at, at + size))
      at += size
      if (at >= rows.length) engine.finish(1)
      engine.deliver()
      if (at >= rows.length) break
    }
    const tokens = restored.reduce((sum, branch) => sum + branch.tokens.length, 0)
    expect(tokens).toBe(
      engine.submitted.length === 0 || node === 0
        ? 0
        : rows.slice(0, done).filter(([kind]) => kind === EVENT.TOKEN).length,
    )
  }
  return log.since(-1)
}

function tree(events: readonly StreamEvent[]) {
  const tree = new BranchTree()
  for (const event of events) tree.apply(event)
  return tree.branches()
}

test('a stream that moves between nodes sends every event once, with the same text', async () => {
  const cuts = fc.array(fc.nat(6), { maxLength: 5 })
  const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(answers, cuts, sizes, async (rows, cuts, sizes) => {
      const whole = await runOver(rows, [], [rows.length + 1])
      const moved = await runOver(rows, cuts, sizes)
      expect(moved.map(({ seq }) => seq)).toEqual(moved.map((_, index) => index))
      expect(tree(moved)).toEqual(tree(whole))
      expect(moved.filter(({ type }) => type === 'accepted')).toHaveLength(1)
      expect({ ...moved.at(-1), seq: 0 }).toEqual({ ...whole.at(-1), seq: 0 })
    }),
    { numRuns: 150 },
  )
})

test('restores a branch that a stop string ended as ended', async () => {
  const batches: NodeBatch[] = []
  const first = await scriptedRunner(folder)
  const request = { ...REQUEST, stop: ['END'] }
  await first.runner.start('s', request, (batch) => batches.push(batch))
  first.engine.tokens(1, 0, Buffer.from('a')).tokens(1, 0, [FORK]).fork(1, 0, 1, 20).tokens(1, 1, [CHILD])
  first.engine.tokens(1, 1, Buffer.from('xEND')).end(1, 1).deliver()

  const second = await scriptedRunner(folder)
  const more: NodeBatch[] = []
  await second.runner.start('s', request, (batch) => more.push(batch), { log: batches })
  expect(second.engine.submitted[0]?.branches).toEqual([
    { id: 0, parent: -1, forkPosition: -1, tokens: Int32Array.of(97, FORK), ended: 0 },
    {
      id: 1,
      parent: 0,
      forkPosition: 20,
      tokens: Int32Array.of(CHILD, ...Buffer.from('xEND')),
      ended: FINISH.STOP,
    },
  ])
  expect(second.engine.calls).toEqual([])
  second.engine.tokens(1, 0, Buffer.from('b')).end(1, 0).finish(1).deliver()
  expect(more.flatMap(({ events }) => events).map(({ type, seq }) => [type, seq])).toEqual([
    ['delta', 5],
    ['branch_end', 6],
    ['done', 7],
  ])
})

test('a stream that lacks only its last event does not use the engine', async () => {
  const batches: NodeBatch[] = []
  const first = await scriptedRunner(folder)
  await first.runner.start('s', REQUEST, (batch) => batches.push(batch))
  first.engine.tokens(1, 0, Buffer.from('a')).end(1, 0, FINISH.LENGTH).deliver()
  const second = await scriptedRunner(folder)
  const more: NodeBatch[] = []
  await second.runner.start('s', REQUEST, (batch) => more.push(batch), { log: batches })
  expect(second.engine.submitted).toEqual([])
  expect(more[0]?.events).toMatchObject([
    { type: 'done', seq: 3, reason: 'length', usage: { completion_tokens: 1 } },
  ])
})
