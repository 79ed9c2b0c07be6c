import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { newNodeSecret } from '../../cli/keys.ts'
import { startGpuNode } from '../../gpu-node/main.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { recorded } from '../support/logs.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

let folder: TinyFolder | undefined
afterEach(() => folder?.remove())

async function warnings(modelDir: string): Promise<Record<string, unknown>[]> {
  const { log, entries } = recorded()
  const node = await startGpuNode({ modelDir, threads: 1, nodeSecret: newNodeSecret(), log })
  await node.close()
  return entries().filter(({ level }) => level === 'warn')
}

test('a node says at its start that the Medusa heads of its checkpoint are not used', async () => {
  folder = tinyCheckpoint()
  expect(await warnings(folder.path)).toEqual([])
  const heads = join(folder.path, 'medusa')
  cpSync(join(packageRoot, 'test/golden/torch/apar-7b/medusa'), heads, { recursive: true })
  expect(await warnings(folder.path)).toMatchObject([
    { message: `${heads}: Medusa heads are not used yet: tokens are decoded one by one` },
  ])
})
