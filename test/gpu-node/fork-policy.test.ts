import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { POLICIES, type Policy } from '../../gpu-node/engine/engine-config.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { requires } from '../support/requires.ts'

const DEMO = join(packageRoot, 'models/demo')
const BUILT = () => existsSync(join(packageRoot, 'native/build/release/apar.node'))

test('the policy deadline needs a token deadline, and others have no deadlines', () => {
  const demo = readCheckpoint(DEMO)
  const refused = expect.objectContaining({ code: 'invalid_option' })
  expect(() => toEngineConfig(demo, { policy: 'deadline' })).toThrow(refused)
  expect(() => toEngineConfig(demo, { policy: 'deadline', firstTokenDeadlineMs: 500 })).toThrow(refused)
  for (const policy of [undefined, 'eager', 'capped', 'serial'] as const)
    for (const deadline of [{ tokenDeadlineMs: 50 }, { firstTokenDeadlineMs: 500 }])
      expect(() => toEngineConfig(demo, { policy, ...deadline })).toThrow(refused)
  const given = { policy: 'deadline', tokenDeadlineMs: 50, firstTokenDeadlineMs: 500 } as const
  expect(toEngineConfig(demo, given)).toMatchObject(given)
  expect(toEngineConfig(demo, { policy: 'deadline', tokenDeadlineMs: 50 }).firstTokenDeadlineMs).toBe(0)
})

describe.skipIf(!requires('the built engine', BUILT))('the engine', () => {
  async function branchesWith(policy: Policy): Promise<number> {
    const tokenDeadlineMs = policy === 'deadline' ? 1000 : undefined
    const runner = await openRunner(DEMO, {
      threads: 1,
      device: 'cpu',
      name: 'demo',
      policy,
      tokenDeadlineMs,
    })
    try {
      const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]
      const done = await new Promise<StreamEvent>((resolve, reject) => {
        runner
          .start('s', { model: 'demo', messages, temperature: 0, max_tokens: 300 }, ({ events }) => {
            const last = events.at(-1)
            if (last?.type === 'done' || last?.type === 'error') resolve(last)
          })
          .catch(reject)
      })
      if (done.type !== 'done') throw new Error('the request failed')
      return done.usage.branches.length
    } finally {
      await runner.close()
    }
  }

  test('knows every policy: an answer alone forks with all of them but serial', {
    timeout: 60_000,
  }, async () => {
    for (const policy of POLICIES) {
      const branches = await branchesWith(policy)
      if (policy === 'serial') expect(branches).toBe(1)
      else expect(branches).toBeGreaterThan(3)
    }
  })
})
