import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openEngine } from '../../gpu-node/engine/binding.ts'
import type { DType } from '../../gpu-node/engine/engine-config.ts'
import { EVENT, EVENT_WIDTH } from '../../gpu-node/engine/engine-events.ts'
import { engineRequest } from '../support/engine-request.ts'
import { convertLlama2c, readLlama2cPieces } from './llama2c.ts'

const ROOT = join(import.meta.dirname, '../..')
const DATA = process.env.APAR_DATA ?? join(ROOT, '../shared/data')
const WEIGHTS = join(DATA, 'weights/stories260K.bin')

// The output of llama2.c itself for this model at temperature 0.
const STORY =
  'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, ' +
  "she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go " +
  'to the park." Lily was sad and didn\'t know what to do. She said, "I want to play with your ball, but I can\'t ' +
  'find it."\n'

const present = existsSync(WEIGHTS)
if (!present) console.log(`skipped: the stories260K weights are missing (${WEIGHTS}; set APAR_DATA)`)

describe.skipIf(!present)('a third-party model generates the same story as in llama2.c', () => {
  const folder = mkdtempSync(join(tmpdir(), 'apar-stories-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  for (const dtype of ['f32', 'bf16'] satisfies DType[]) {
    it(dtype, async () => {
      const file = join(folder, `${dtype}.bin`)
      const { shape, tensors } = convertLlama2c(WEIGHTS, file)
      const pieces = readLlama2cPieces(join(DATA, 'weights/tok512.bin'))
      const ids: number[] = []
      let finish = () => {}
      const finished = new Promise<void>((resolve) => {
        finish = resolve
      })
      const engine = await openEngine(
        {
          model: shape,
          weights: { files: [file], tensors },
          tokens: { fork: -1, child: -1, eos: [1, 2] },
          dtype,
          kvCacheDtype: 'auto',
          device: 'cpu',
          devices: [],
          threads: 2,
          numBlocks: 32,
          minBlocks: 32,
          kvCacheBytes: 0,
          memoryFraction: 0,
          reservedBytes: 0,
          maxStepTokens: 16,
          maxBranches: 4,
          maxRequests: 4,
          prefixCache: true,
          watermark: 0,
          policy: 'eager',
          tokenDeadlineMs: 0,
          firstTokenDeadlineMs: 0,
          speculation: 'auto',
        },
        (rows) => {
          for (let at = 0; at < rows.length; at += EVENT_WIDTH) {
            if (rows[at] === EVENT.TOKEN) ids.push(rows[at + 3] ?? -1)
            if (rows[at] === EVENT.FINISH) finish()
          }
        },
      )
      engine.submit(engineRequest({ id: 1, maxTokens: 220 }))
      await finished
      await engine.close()
      const text = Buffer.concat(ids.map((id) => pieces[id] ?? Buffer.alloc(0))).toString('utf8')
      expect(text.trimStart().slice(0, STORY.length)).toBe(STORY)
    })
  }
})
