import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FINISH } from '../../gpu-node/engine/engine-events.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { SPECIAL, type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const FORK = SPECIAL['[Fork]']
const CHILD = SPECIAL['[Child]']
const bytes = (text: string) => Buffer.from(text)
const messages = [{ role: 'user' as const, content: 'hi' }]
const REQUEST = { model: 'tiny', messages, seed: 1, stop: ['yz'], stop_scope: 'document' as const }

let folder: TinyFolder
beforeAll(() => {
  folder = tinyCheckpoint()
})
afterAll(() => folder.remove())

async function started(log: readonly NodeBatch[] = []) {
  const { runner, engine } = await scriptedRunner(folder)
  const batches: NodeBatch[] = [...log]
  await runner.start('s', REQUEST, (batch) => batches.push(batch), { log })
  const events = (): StreamEvent[] => batches.flatMap((batch) => batch.events)
  const text = () => {
    const tree = new BranchTree()
    for (const event of events()) tree.apply(event)
    return tree.text()
  }
  return { engine, batches, events, text }
}

describe('a stop string in document order', () => {
  test('across a joint ends the answer once the text before it is complete', async () => {
    const { engine, events, text } = await started()
    engine.tokens(1, 0, bytes('a')).tokens(1, 0, [FORK]).fork(1, 0, 1).tokens(1, 1, [CHILD])
    engine.tokens(1, 0, bytes('zbb')).tokens(1, 1, bytes('x')).deliver()
    expect(engine.calls).toEqual([])
    engine.tokens(1, 1, bytes('y')).end(1, 1).deliver()
    expect(engine.calls).toEqual(['abort 1'])
    // The root went on before the engine heard of it, and came to its limit.
    engine.tokens(1, 0, bytes('bb')).end(1, 0, FINISH.LENGTH).finish(1, FINISH.LENGTH).deliver()
    expect(text()).toBe('ax')
    expect(events().at(-1)).toMatchObject({
      ...{ type: 'done', reason: 'stop', text_length: 2 },
      // a, [Fork], z of the root; [Child], x, y of its child.
      usage: { completion_tokens: 6, branches: [{ completion_tokens: 3 }, { completion_tokens: 3 }] },
    })
  })

  test('does not count branches behind it, however far they came', async () => {
    const { engine, events, text } = await started()
    engine.tokens(1, 0, bytes('a')).tokens(1, 0, [FORK]).fork(1, 0, 1).tokens(1, 1, [CHILD])
    engine
      .tokens(1, 0, bytes('b'))
      .tokens(1, 0, [FORK])
      .fork(1, 0, 2)
      .tokens(1, 2, [CHILD, ...bytes('cccc')])
      .deliver()
    engine.tokens(1, 1, bytes('.yz')).end(1, 1).deliver()
    engine.end(1, 0, FINISH.ABORT).end(1, 2, FINISH.ABORT).finish(1, FINISH.ABORT).deliver()
    expect(text()).toBe('a.')
    expect(events().at(-1)).toMatchObject({
      reason: 'stop',
      usage: {
        branches: [
          { branch: 0, completion_tokens: 2 },
          { branch: 1, completion_tokens: 4 },
        ],
      },
    })
  })

  test('is found again in the log of a stream that moves', async () => {
    const first = await started()
    first.engine.tokens(1, 0, bytes('ay')).deliver()
    const second = await started(first.batches)
    second.engine.tokens(1, 0, bytes('z')).end(1, 0).deliver()
    expect(second.engine.calls).toEqual(['abort 1'])
    // Lost before its last event: a third node needs no engine.
    const third = await started(second.batches)
    expect(third.engine.submitted).toEqual([])
    expect(third.text()).toBe('a')
    expect(third.events().at(-1)).toMatchObject({
      reason: 'stop',
      text_length: 1,
      usage: { completion_tokens: 3 },
    })
  })

  test('logits that are not finite end the request, and no other node tries it', async () => {
    const { engine, events } = await started()
    engine.end(1, 0, FINISH.NOT_FINITE).finish(1, FINISH.NOT_FINITE).deliver()
    expect(events().at(-1)).toMatchObject({ type: 'error', code: 'engine_error', retry: false })
  })
})
