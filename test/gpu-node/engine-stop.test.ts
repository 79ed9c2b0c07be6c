import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openRunner } from '../../gpu-node/open-runner.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'

const ROOT = join(import.meta.dirname, '../..')
const BUILT = existsSync(join(ROOT, 'native/build/release/apar.node'))
if (!BUILT) console.warn('engine-stop.test.ts skipped: the engine is not built (npm run setup)')

const QUESTION: GenerateRequest = {
  model: 'demo',
  messages: [{ role: 'user', content: 'How do I use tar?' }],
  temperature: 0,
}

function run(runner: Runner, request: GenerateRequest): Promise<StreamEvent[]> {
  return new Promise((resolve) => {
    const events: StreamEvent[] = []
    runner.start(`s${Math.random()}`, request, (batch) => {
      events.push(...batch.events)
      if (events.at(-1)?.type === 'done' || events.at(-1)?.type === 'error') resolve(events)
    })
  })
}

/** What a client is given: the branches with their texts and reasons, and how it ended; not what was cached. */
function given(events: readonly StreamEvent[]) {
  const tree = new BranchTree()
  for (const event of events) tree.apply(event)
  const last = events.at(-1)
  const end = last?.type === 'done' ? [last.reason, last.usage.branches, last.usage.completion_tokens] : last
  return { branches: tree.branches(), end }
}

describe.skipIf(!BUILT)('the same request gives the same texts, reasons and usage', () => {
  let roomy: Runner
  let tiny: Runner
  beforeAll(async () => {
    const folder = join(ROOT, 'models/demo')
    roomy = await openRunner(folder, { threads: 1, device: 'cpu', name: 'demo' })
    // Chunks of a few tokens, few branches at once, and a pool in which they are preempted.
    const limits = { maxStepTokens: 24, maxBranches: 24, numBlocks: 66, prefixCache: false }
    tiny = await openRunner(folder, { threads: 1, device: 'cpu', name: 'demo', ...limits })
  }, 60_000)
  afterAll(async () => {
    await roomy?.close()
    await tiny?.close()
  })

  const requests: Record<string, GenerateRequest> = {
    'a stop string that ends branches, beside max_tokens': { ...QUESTION, max_tokens: 200, stop: ['`tar'] },
    'max_tokens in the middle of branches': { ...QUESTION, max_tokens: 160 },
    'a seed': { ...QUESTION, temperature: 1, seed: 11, max_tokens: 150, stop: ['the '] },
    'few branches': { ...QUESTION, max_tokens: 250, branching: { max_branches: 2, max_depth: 3 } },
  }
  for (const [name, request] of Object.entries(requests)) {
    test(`with ${name}: alone, beside others, in small steps and a small pool`, {
      timeout: 120_000,
    }, async () => {
      const alone = given(await run(roomy, request))
      expect(alone.branches.length).toBeGreaterThan(1)
      const others = Array.from({ length: 31 }, (_, seed) =>
        run(roomy, { ...QUESTION, temperature: 1, seed, max_tokens: 60 + seed }),
      )
      const beside = Promise.all(Array.from({ length: 4 }, () => run(roomy, request)))
      for (const events of await beside) expect(given(events)).toEqual(alone)
      await Promise.all(others)
      const crowd = await Promise.all(Array.from({ length: 16 }, () => run(tiny, request)))
      for (const events of crowd) expect(given(events)).toEqual(alone)
      expect(tiny.stats().preemptions).toBeGreaterThan(0)
    })
  }
})
