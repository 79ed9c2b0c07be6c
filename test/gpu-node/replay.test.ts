import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openRunner } from '../../gpu-node/open-runner.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { ForcedBranch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const ROOT = join(import.meta.dirname, '../..')
const BUILT = existsSync(join(ROOT, 'native/build/release/apar.node'))
if (!BUILT) console.warn('replay.test.ts skipped: the engine is not built (npm run setup)')

const QUESTION: GenerateRequest = {
  model: 'demo',
  messages: [{ role: 'user', content: 'How do I use tar?' }],
  temperature: 0,
  max_tokens: 300,
  speculation: 'off',
  trace: true,
}
/** The model would say something else. */
const OTHERWISE = { temperature: 2, seed: 7 }

function run(runner: Runner, request: GenerateRequest, forced: readonly ForcedBranch[] = []) {
  return new Promise<StreamEvent[]>((resolve, reject) => {
    const events: StreamEvent[] = []
    const publish = (batch: { events: StreamEvent[] }) => {
      events.push(...batch.events)
      if (events.at(-1)?.type === 'done' || events.at(-1)?.type === 'error') resolve(events)
    }
    runner.start(`s${Math.random()}`, request, publish, { forced }).catch(reject)
  })
}

function stepsOf(events: readonly StreamEvent[]): TraceStep[] {
  return events.flatMap((event) => (event.type === 'trace' ? event.steps : []))
}

/** What was answered, as it is forced. */
function answerOf(steps: readonly TraceStep[]): ForcedBranch[] {
  const branches: ForcedBranch[] = [{ parent: -1, tokens: [] }]
  for (const { tokens, forks } of steps) {
    for (const { branch, parent } of forks) branches[branch] = { parent, tokens: [] }
    for (const { branch, ids } of tokens) branches[branch]?.tokens.push(...(ids ?? []))
  }
  return branches
}

function reasonOf(events: readonly StreamEvent[]): string | undefined {
  const last = events.at(-1)
  return last?.type === 'done' ? last.reason : undefined
}

function textOf(events: readonly StreamEvent[]): string {
  const tree = new BranchTree()
  for (const event of events) tree.apply(event)
  return tree.text()
}

describe.skipIf(!BUILT)('a replay', () => {
  let runner: Runner
  beforeAll(async () => {
    const options = { threads: 1, device: 'cpu', name: 'demo', prefixCache: false } as const
    runner = await openRunner(join(ROOT, 'models/demo'), { ...options, allowReplay: true })
  }, 60_000)
  afterAll(async () => await runner?.close())

  test('of what the model answered has the trace of the answer, but for its times', async () => {
    const answered = await run(runner, QUESTION)
    const steps = stepsOf(answered)
    const forced = answerOf(steps)
    expect(forced.length).toBeGreaterThan(3)
    expect(textOf(await run(runner, { ...QUESTION, ...OTHERWISE }))).not.toBe(textOf(answered))
    const replayed = await run(runner, { ...QUESTION, ...OTHERWISE }, forced)
    const [first, ...others] = [steps, stepsOf(replayed)].map((each) => {
      const from = each[0]?.step ?? 0
      return each.map(({ us, step, ...figures }) => ({ ...figures, step: step - from }))
    })
    expect(others).toEqual([first])
    expect(textOf(replayed)).toBe(textOf(answered))
    expect(replayed.at(-1)).toMatchObject({ type: 'done', reason: reasonOf(answered) })
  })

  test('without branches has the same text', async () => {
    const answered = await run(runner, QUESTION)
    const forced = answerOf(stepsOf(answered))
    const serial = await run(runner, { ...QUESTION, ...OTHERWISE, branching: { enabled: false } }, forced)
    expect(serial.at(-1)).toMatchObject({ usage: { branches: [{ branch: 0 }] } })
    expect(textOf(serial)).toBe(textOf(answered))
    expect(stepsOf(serial).length).toBeGreaterThan(1.5 * stepsOf(answered).length)
  })

  test('of a tree that is none is refused', async () => {
    const forced = [{ parent: -1, tokens: [1, 2] }]
    const refused = { code: 'invalid_request', message: expect.stringContaining('forced') }
    for (const branch of [
      { parent: 0, tokens: [3] },
      { parent: 1, tokens: [3] },
      { parent: 0, tokens: [1e9] },
    ])
      await expect(run(runner, QUESTION, [...forced, branch])).rejects.toMatchObject(refused)
  })
})

test('a runner without replays refuses forced answers', async () => {
  const folder = tinyCheckpoint()
  try {
    const { runner, engine } = await scriptedRunner(folder)
    const started = run(runner, { ...QUESTION, model: 'tiny' }, [{ parent: -1, tokens: [1] }])
    await expect(started).rejects.toMatchObject({ code: 'invalid_request', param: 'forced' })
    expect(engine.submitted).toEqual([])
  } finally {
    folder.remove()
  }
})
