import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newNodeSecret } from '../../cli/keys.ts'
import { startGpuNode } from '../../gpu-node/main.ts'
import { recorded } from '../support/logs.ts'
import { writeMedusa, writeTorchMedusa } from '../support/medusa-folder.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
beforeEach(() => {
  folder = tinyCheckpoint()
})
afterEach(() => folder.remove())

/** What a node's log says of Medusa heads at its start. */
async function said(options: { medusa?: string; dtype?: 'bf16' | 'int8' } = {}): Promise<unknown[]> {
  const { log, entries } = recorded()
  const node = await startGpuNode({
    modelDir: folder.path,
    threads: 1,
    device: 'cpu',
    nodeSecret: newNodeSecret(),
    log,
    ...options,
  })
  await node.close()
  const messages = entries().map(({ message }) => String(message))
  return messages.filter((message) => /medusa/i.test(message))
}

test('a node loads the Medusa heads of its checkpoint, and says so', async () => {
  expect(await said()).toEqual([])
  const heads = join(folder.path, 'medusa')
  writeMedusa(heads, { tied: true, layers: 2 })
  expect(await said()).toEqual(['Medusa: 2 heads, shared lm_head (260 tokens), 0.0 MB'])
  expect(await said({ medusa: 'none' })).toEqual([])
  writeMedusa(heads, { heads: 1, layers: 0, vocabulary: 258 })
  expect(await said({ dtype: 'int8' })).toEqual([
    `${heads}: the heads know 258 of 260 tokens: the others are never drafted, only decoded`,
    'Medusa: 1 head, projections of their own, 0.0 MB',
  ])
  // The cache of the model's own packed layers.
  expect(readdirSync(join(folder.path, '.apar'))).toHaveLength(1)
  expect(readdirSync(heads).sort()).toEqual(['config.json', 'medusa_lm_head.safetensors'])
})

test('published heads, whose layers share their weights, are loaded from torch’s file', async () => {
  const heads = join(folder.path, 'elsewhere')
  writeTorchMedusa(heads, { layers: 2 }, (name) => name.replace('.1.', '.0.'))
  expect(await said({ medusa: heads })).toEqual(['Medusa: 2 heads, projections of their own, 0.0 MB'])
})

test('heads that are not those of the model are refused at the start', async () => {
  writeMedusa(join(folder.path, 'medusa'), { hidden: 16 })
  await expect(said()).rejects.toMatchObject({ code: 'broken_checkpoint' })
})
