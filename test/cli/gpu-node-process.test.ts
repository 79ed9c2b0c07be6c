import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { spawnGpuNode } from '../../cli/local/gpu-node-process.ts'

const [, ownScript = ''] = process.argv
const folder = mkdtempSync(join(tmpdir(), 'apar-node-'))

afterEach(() => {
  process.argv[1] = ownScript
  rmSync(folder, { recursive: true })
})

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

it('a node that ends while it is told something has ended, and nothing else', async () => {
  const script = join(folder, 'ends.cjs')
  const marker = join(folder, 'ends')
  writeFileSync(
    script,
    `require('fs').writeFileSync(${JSON.stringify(marker)}, ''); process.kill(process.pid, 'SIGKILL')`,
  )
  process.argv[1] = script
  const node = spawnGpuNode({ args: [], nodeSecret: 'secret' })
  // Synchronously: this process must not hear of its end before it says something.
  while (!existsSync(marker)) pause(10)
  pause(500)
  node.edgeStarted('http://127.0.0.1:1')
  await expect(node.exited).resolves.toBe('SIGKILL')
  await expect(node.ready).rejects.toMatchObject({ code: 'gpu_node_ended' })
})
