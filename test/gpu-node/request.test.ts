import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { FINISH } from '../../gpu-node/engine/engine-events.ts'
import { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { inlinePrompts } from '../support/inline-prompts.ts'
import { ScriptedEngine } from '../support/scripted-engine.ts'
import { SPECIAL, type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const FORK = SPECIAL['[Fork]']
const CHILD = SPECIAL['[Child]']

let folder: TinyFolder
beforeAll(() => {
  folder = tinyCheckpoint()
})
afterAll(() => folder.remove())

let engine: ScriptedEngine
let runner: Runner
let events: StreamEvent[]
beforeEach(async () => {
  events = []
  const checkpoint = readCheckpoint(folder.path)
  runner = await Runner.open({
    model: 'tiny',
    checkpoint,
    prompts: inlinePrompts(checkpoint),
    maxBranches: 8,
    openEngine: async (onEvents) => {
      engine = new ScriptedEngine(onEvents)
      return engine
    },
  })
})

function start(more: Partial<GenerateRequest> = {}, onBatch: (batch: NodeBatch) => void = () => {}) {
  const request = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], ...more }
  return runner.start('s', request, (batch) => {
    events.push(...batch.events)
    onBatch(batch)
  })
}

const bytes = (text: string): Buffer => Buffer.from(text)
const types = () => events.map(({ type }) => type)
function tree(): BranchTree {
  const tree = new BranchTree()
  for (const event of events) tree.apply(event)
  return tree
}

describe('one request', () => {
  test('is accepted at once, and every event is of the protocol, numbered without gaps', async () => {
    await start()
    engine.tokens(1, 0, bytes('1. a:')).tokens(1, 0, [FORK]).fork(1, 0, 1).tokens(1, 1, [CHILD]).deliver()
    engine.tokens(1, 0, bytes('\n2.')).tokens(1, 1, bytes(' b')).deliver()
    engine.end(1, 1).end(1, 0).finish(1).deliver()
    expect(events.map((event) => StreamEvent.parse(event).seq)).toEqual(events.map((_, index) => index))
    expect(types()).toEqual([
      'accepted',
      'delta',
      'fork',
      'delta',
      'delta',
      'branch_end',
      'branch_end',
      'done',
    ])
    expect(tree().text()).toBe('1. a: b\n2.')
    const prompt = '<s>user: hi\nA:'.length - 2
    expect(events.at(-1)).toMatchObject({
      reason: 'stop',
      usage: {
        prompt_tokens: prompt,
        cached_prompt_tokens: 0,
        completion_tokens: 12,
        total_tokens: prompt + 12,
        branches: [
          { branch: 0, completion_tokens: 9 },
          { branch: 1, completion_tokens: 3 },
        ],
      },
    })
  })

  test('sends at most one delta per branch and batch', async () => {
    await start()
    engine.tokens(1, 0, bytes('one two three')).deliver()
    expect(events.slice(1)).toEqual([{ type: 'delta', seq: 1, branch: 0, text: 'one two three' }])
  })

  test('that gets much at once sends it in several batches, none of which the edge takes for nonsense', async () => {
    const batches: NodeBatch[] = []
    await start({ logprobs: 20 }, (batch) => batches.push(batch))
    // The longest form in JSON: control characters.
    const top = Array.from({ length: 21 }, (): [number, number] => [1, -1.2345678806304932])
    for (let i = 0; i < 6_000; i++) engine.tokens(1, 0, [1]).logprobs(1, 0, top)
    engine.deliver()
    const sizes = batches.map((batch) => JSON.stringify(batch).length)
    expect(Math.max(...sizes)).toBeLessThan(1.1 * 1024 * 1024)
    expect(sizes.reduce((sum, size) => sum + size)).toBeGreaterThan(6 * 1024 * 1024)
    const logprobs = batches.flatMap(({ events }) =>
      events.flatMap((event) => (event.type === 'delta' ? (event.logprobs ?? []) : [])),
    )
    expect(logprobs.map(({ at }) => at)).toEqual(Array.from({ length: 6_000 }, (_, at) => at))
    expect(logprobs.every((token) => token.top.length === 20)).toBe(true)
  })

  test('the position of a fork is the length of the parent’s own text in UTF-16 units, also after an incomplete character', async () => {
    await start()
    engine.tokens(1, 0, bytes('🙂é')).tokens(1, 0, [0xf0, FORK]).fork(1, 0, 1).deliver()
    expect(events.at(-1)).toMatchObject({ type: 'fork', branch: 1, parent: 0, at: 4 })
    expect(tree().branch(0)?.text).toBe('🙂é\ufffd')
  })

  test('takes its defaults from the checkpoint and the context', async () => {
    await start()
    expect(engine.submitted[0]).toMatchObject({
      maxTokens: 256 - '.user: hi\nA:'.length,
      maxBranches: 32,
      maxDepth: 2,
      temperature: 0,
      topP: 1,
      topK: 0,
    })
    await start({ branching: { enabled: false }, max_tokens: 5, temperature: 1, seed: 7 })
    expect(engine.submitted[1]).toMatchObject({
      maxTokens: 5,
      maxBranches: 1,
      maxDepth: 1,
      temperature: 1,
      seed: 7,
    })
  })

  test('chooses a random seed when none is given', async () => {
    for (let i = 0; i < 4; i++) await start()
    expect(new Set(engine.submitted.map(({ seed }) => seed)).size).toBeGreaterThan(1)
  })
})

describe('stop strings', () => {
  test('end only their branch, also across tokens, and are not sent', async () => {
    await start({ stop: ['END'] })
    engine.tokens(1, 0, bytes('a')).tokens(1, 0, [FORK]).fork(1, 0, 1).tokens(1, 1, [CHILD]).deliver()
    engine.tokens(1, 0, bytes('bEN')).tokens(1, 1, bytes('c')).deliver()
    engine.tokens(1, 0, bytes('D')).end(1, 0).tokens(1, 1, bytes('d')).deliver()
    engine.tokens(1, 1, bytes('e')).end(1, 1).finish(1).deliver()
    expect(tree().branch(0)).toMatchObject({ text: 'ab', reason: 'stop' })
    expect(tree().branch(1)).toMatchObject({ text: 'cde', reason: 'stop' })
    const usage = events.at(-1)
    // a, [Fork], b, E, N, D of the root; [Child], c, d, e of its child.
    expect(usage).toMatchObject({ usage: { branches: [{ completion_tokens: 6 }, { completion_tokens: 4 }] } })
  })

  test('text held back for a stop string that does not follow is sent at the end', async () => {
    await start({ stop: ['END'] })
    engine.tokens(1, 0, bytes('E')).deliver()
    expect(types()).toEqual(['accepted'])
    engine.end(1, 0).finish(1).deliver()
    expect(tree().text()).toBe('E')
  })

  test('go to the engine, which ends the branch, as valid UTF-8', async () => {
    await start({ stop: ['END', '\ud800x'] })
    expect(engine.submitted[0]).toMatchObject({ stop: ['END', '\ufffdx'], stopScope: 'branch' })
    expect(engine.calls).toEqual([])
  })

  test('the engine’s finish reason after a stop string is ignored', async () => {
    await start({ stop: ['x'] })
    engine.tokens(1, 0, bytes('x')).deliver()
    engine.end(1, 0, FINISH.LENGTH).finish(1, FINISH.LENGTH).deliver()
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'stop' })
  })
})

describe('ends', () => {
  test('by length', async () => {
    await start()
    engine.tokens(1, 0, bytes('a')).end(1, 0, FINISH.LENGTH).finish(1, FINISH.LENGTH).deliver()
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'length' })
  })

  test('by cancel, once', async () => {
    const request = await start()
    request.cancelBranch(3)
    request.cancelBranch(0)
    expect(engine.calls).toEqual(['abort 1/3', 'abort 1'])
    engine.end(1, 0, FINISH.ABORT).finish(1, FINISH.ABORT).deliver()
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
    request.cancel()
    expect(engine.calls).toHaveLength(2)
  })

  test('by a failure of the engine, which also settles runner.failed', async () => {
    await start()
    engine.end(1, 0, FINISH.ERROR).finish(1, FINISH.ERROR).deliver('device lost')
    expect(events.at(-1)).toMatchObject({
      type: 'error',
      code: 'engine_error',
      message: expect.stringContaining('device lost'),
    })
    await expect(runner.failed).resolves.toBe('device lost')
  })

  test('by the runner’s close, even if the engine sends no events', async () => {
    await start()
    await runner.close()
    expect(engine.closed).toBe(true)
    expect(events.at(-1)).toMatchObject({ type: 'error', code: 'gpu_node_lost' })
  })
})

describe('refusals', () => {
  test.each([
    ['queue_full', 'overloaded'],
    ['request_too_large', 'context_length_exceeded'],
    ['closed', 'overloaded'],
    ['internal', 'engine_error'],
  ] as const)('%s becomes %s, and no event is sent', async (refused, code) => {
    engine.refuseWith = refused
    await expect(start()).rejects.toThrow(expect.objectContaining({ code }))
    expect(events).toEqual([])
  })

  test('another model', async () => {
    await expect(start({ model: 'other' })).rejects.toThrow(
      expect.objectContaining({ code: 'model_not_found' }),
    )
  })

  test('a prompt that fills the context', async () => {
    const messages = [{ role: 'user' as const, content: 'x'.repeat(300) }]
    await expect(start({ messages })).rejects.toThrow(
      expect.objectContaining({ code: 'context_length_exceeded' }),
    )
  })
})

test('two requests do not mix', async () => {
  const other: StreamEvent[] = []
  await start()
  await runner.start('t', { model: 'tiny', messages: [{ role: 'user', content: 'x' }] }, (batch) =>
    other.push(...batch.events),
  )
  engine.tokens(1, 0, bytes('one')).tokens(2, 0, bytes('two')).deliver()
  expect(tree().text()).toBe('one')
  expect(other.at(-1)).toMatchObject({ type: 'delta', text: 'two' })
})

describe('log-probabilities', () => {
  const deltas = () => events.filter((event) => event.type === 'delta')

  test('are sent, and held back, with the text in which their tokens start', async () => {
    await start({ logprobs: 1, stop: ['b!'] })
    engine.tokens(1, 0, bytes('a')).logprobs(1, 0, [
      [97, -0.5],
      [98, -1.5],
    ])
    engine.tokens(1, 0, bytes('b')).logprobs(1, 0, [
      [98, -0.25],
      [SPECIAL['</s>'], Number.NEGATIVE_INFINITY],
    ])
    engine.deliver()
    expect(deltas()).toMatchObject([
      {
        text: 'a',
        logprobs: [
          {
            at: 0,
            token: 'a',
            bytes: [97],
            logprob: -0.5,
            top: [{ token: 'b', bytes: [98], logprob: -1.5 }],
          },
        ],
      },
    ])
    engine
      .tokens(1, 0, bytes('c'))
      .logprobs(1, 0, [[99, -1]])
      .deliver()
    expect(deltas()[1]).toMatchObject({
      text: 'bc',
      logprobs: [
        { at: 1, token: 'b', top: [{ token: `token_id:${SPECIAL['</s>']}`, bytes: null, logprob: -9999 }] },
        { at: 2, token: 'c', logprob: -1, top: [] },
      ],
    })
    for (const event of events) StreamEvent.parse(event)
  })

  test('of an incomplete character have its bytes, and [Fork] has none', async () => {
    await start({ logprobs: 0 })
    for (const byte of Buffer.from('é')) engine.tokens(1, 0, [byte]).logprobs(1, 0, [[byte, -1]])
    engine
      .tokens(1, 0, [FORK])
      .logprobs(1, 0, [[FORK, -2]])
      .fork(1, 0, 1)
      .tokens(1, 1, [CHILD])
    engine
      .tokens(1, 1, bytes('x'))
      .logprobs(1, 1, [[120, -3]])
      .deliver()
    engine
      .tokens(1, 0, bytes('y'))
      .logprobs(1, 0, [[121, -4]])
      .deliver()
    expect(
      deltas().map(({ text, logprobs }) => [text, logprobs?.map(({ at, bytes }) => [at, bytes])]),
    ).toEqual([
      [
        'é',
        [
          [0, [0xc3]],
          [0, [0xa9]],
        ],
      ],
      ['x', [[0, [120]]]],
      ['y', [[1, [121]]]],
    ])
  })

  test('of a request that scores its prompt are those of every token, with text or not, and of the end', async () => {
    const EOS = SPECIAL['</s>']
    await start({ logprobs: 0, prompt_logprobs: 0, raw_prompt: true })
    engine.tokens(1, 0, [FORK]).logprobs(1, 0, [[FORK, -2]])
    engine
      .fork(1, 0, 1)
      .tokens(1, 1, [CHILD])
      .end(1, 1)
      .tokens(1, 0, bytes('y'))
      .logprobs(1, 0, [[121, -3]])
    engine.endToken(1, 0, EOS).logprobs(1, 0, [[EOS, -4]])
    engine.end(1, 0).finish(1).deliver()
    expect(deltas()).toMatchObject([
      {
        text: 'y',
        logprobs: [
          { at: 0, token: `token_id:${FORK}`, bytes: null, logprob: -2 },
          { at: 0, token: 'y', logprob: -3 },
        ],
      },
    ])
    const ends = events.filter((event) => event.type === 'branch_end')
    expect(ends.map((end) => StreamEvent.parse(end))).toMatchObject([
      { branch: 1 },
      { branch: 0, logprobs: [{ at: 1, token: `token_id:${EOS}`, bytes: null, logprob: -4, top: [] }] },
    ])
    expect(ends[0]).not.toHaveProperty('logprobs')
    expect(events.at(-1)).toMatchObject({ usage: { completion_tokens: 3 } })
  })

  test('end with the stop string, also of a request that scores its prompt', async () => {
    await start({ logprobs: 0, prompt_logprobs: 0, raw_prompt: true, stop: ['!'] })
    engine.tokens(1, 0, bytes('a')).logprobs(1, 0, [[97, -1]])
    engine.tokens(1, 0, bytes('!')).logprobs(1, 0, [[33, -2]])
    engine.end(1, 0).finish(1).deliver()
    expect(deltas()).toMatchObject([{ text: 'a', logprobs: [{ token: 'a' }] }])
    expect(events.find(({ type }) => type === 'branch_end')).not.toHaveProperty('logprobs')
  })
})

test('passes options to the engine unchanged, and absent ones as disabled', async () => {
  await start({
    frequency_penalty: 1.5,
    presence_penalty: -0.5,
    logprobs: 3,
    logit_bias: { 7: -100, 65: 2.5 },
  })
  await start()
  expect(engine.submitted[0]).toMatchObject({
    frequencyPenalty: 1.5,
    presencePenalty: -0.5,
    logprobs: 3,
    logitBias: { tokens: Int32Array.of(7, 65), values: Float32Array.of(-100, 2.5) },
  })
  expect(engine.submitted[1]).toMatchObject({ frequencyPenalty: 0, presencePenalty: 0, logprobs: -1 })
  await expect(start({ logit_bias: { 260: 1 } })).rejects.toThrow(/logit_bias.260: the model has 260 tokens/)
})

describe('beside many others', () => {
  test('the first text and the end of a request are sent at once, what is between them is collected', async () => {
    engine.runningRequests = 100
    const first = new Promise<void>((resolve) => {
      start({}, ({ events: batch }) => {
        if (batch.some((event) => event.type === 'delta' && event.text.includes('c'))) resolve()
      })
    })
    await Promise.resolve()
    await vi.waitFor(() => expect(types()).toEqual(['accepted']))
    engine.tokens(1, 0, bytes('a')).deliver()
    expect(types()).toEqual(['accepted', 'delta'])
    engine.tokens(1, 0, bytes('b')).deliver()
    engine.tokens(1, 0, bytes('c')).deliver()
    expect(types()).toEqual(['accepted', 'delta'])
    await first
    expect(events.at(-1)).toMatchObject({ type: 'delta', text: 'bc' })
    engine.tokens(1, 0, bytes('d')).deliver()
    engine.end(1, 0).finish(1).deliver()
    expect(types()).toEqual(['accepted', 'delta', 'delta', 'delta', 'branch_end', 'done'])
    expect(tree().text()).toBe('abcd')
  })
})
