import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startGpuNode } from '../../gpu-node/main.ts'
import { Logger } from '../../shared/log.ts'
import { requires } from '../support/requires.ts'
import { tinyCheckpoint, tinyConfig } from '../support/tiny-checkpoint.ts'

const BUILT = existsSync(join(import.meta.dirname, '../../native/build/release/apar.node'))

test.skipIf(!requires('the built engine', () => BUILT))(
  'the log of a node’s start has the warnings about its checkpoint',
  async () => {
    const folder = tinyCheckpoint()
    folder.write('config.json', { ...tinyConfig(), new_scale: 2, sliding_window: 64 })
    const lines: { level: string; message: string }[] = []
    const log = new Logger({ level: 'info', format: 'json', write: (line) => lines.push(JSON.parse(line)) })
    const node = await startGpuNode({
      modelDir: folder.path,
      nodeSecret: 'secret',
      device: 'cpu',
      threads: 1,
      log,
    })
    await node.close()
    folder.remove()
    const warnings = lines.filter(({ level }) => level === 'warn').map(({ message }) => message)
    expect(warnings).toContainEqual(expect.stringMatching(/config\.json: new_scale: is not known/))
    expect(warnings).toContainEqual(
      expect.stringMatching(/config\.json: sliding_window: the context ends at 64 tokens/),
    )
    expect(node.runner.contextTokens).toBe(64)
  },
)
