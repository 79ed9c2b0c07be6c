import { closeSync, cpSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { type Stack, startStack } from './stack.ts'

let folder: string
let stack: Stack
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'apar-not-finite-'))
  cpSync(`${packageRoot}/models/demo`, folder, { recursive: true })
  writeNaN(join(folder, 'model.safetensors'), 'model.norm.weight')
  stack = await startStack({ modelDir: folder, modelName: 'demo' })
})
afterAll(async () => {
  await stack?.close()
  rmSync(folder, { recursive: true, force: true })
})

/** Makes the first value of a tensor NaN: all bits of its exponent and mantissa are set. */
function writeNaN(path: string, tensor: string): void {
  const file = openSync(path, 'r+')
  const size = Buffer.alloc(8)
  readSync(file, size, 0, 8, 0)
  const headerBytes = Number(size.readBigUInt64LE())
  const header = Buffer.alloc(headerBytes)
  readSync(file, header, 0, headerBytes, 8)
  const { dtype, data_offsets } = JSON.parse(header.toString())[tensor]
  writeSync(
    file,
    Buffer.alloc(dtype === 'F32' ? 4 : 2, 0xff),
    0,
    dtype === 'F32' ? 4 : 2,
    8 + headerBytes + data_offsets[0],
  )
  closeSync(file)
}

test.each([false, true])(
  'logits that are not finite end the request, and the node stays (stream: %s)',
  async (stream) => {
    for (let i = 0; i < 8; i++) {
      const response = await fetch(`${stack.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'demo', messages: [{ role: 'user', content: 'x' }], stream }),
      })
      const text = await response.text()
      expect(text).toContain('"code":"engine_error"')
      expect(text).toContain('not finite')
      if (!stream) expect(response.status).toBe(500)
    }
    // Each request ran once, and the breaker of the node is closed.
    const ready = await fetch(`${stack.url}/readyz`)
    expect(ready.status).toBe(200)
    const node = await fetch(`${stack.node.url.replace('ws:', 'http:')}/readyz`)
    expect(node.status).toBe(200)
  },
)
