import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { emulateCuda, sameOnBoth } from '../../bench/emulated/both.ts'
import { tunedJob } from '../../bench/emulated/jobs.ts'
import { DEFAULT_MODEL } from '../../cli/models/default-model.ts'
import { isKnownAndMissing } from '../../cli/models/resolve.ts'

const missing = isKnownAndMissing(DEFAULT_MODEL)
if (missing) console.log(`skipped: ${DEFAULT_MODEL} was not pulled: apar model pull ${DEFAULT_MODEL}`)

/** Whole models on the CUDA kernels: `npm run -s bench -- emulated` has more of them. */
describe('the CUDA kernels, on a device that the host emulates, say what the CPU says', () => {
  beforeAll(() => emulateCuda(join(import.meta.dirname, '../..')))

  it('the demo model, with forks, preemptions and n-grams', { timeout: 300_000 }, async () => {
    const { stats } = (await sameOnBoth(tunedJob('demo', ['How do I use tar?', 'How do I use grep?'], 60)))
      .cuda
    expect(stats.forks).toBeGreaterThan(1)
    expect(stats.preemptions).toBeGreaterThan(0)
    expect(stats.acceptedTokens.ngram).toBeGreaterThan(0)
  })

  it.skipIf(missing)('the default model, with forks and Medusa heads', { timeout: 600_000 }, async () => {
    const { stats } = (await sameOnBoth(tunedJob(DEFAULT_MODEL, ['Name three benefits of walking.'], 20)))
      .cuda
    expect(stats.forks).toBeGreaterThan(0)
    expect(stats.draftedTokens.medusa).toBeGreaterThan(0)
  })
})
