import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { memory, nodeVersion, processor } from '../../../cli/doctor/machine.ts'
import { cuda, engine } from '../../../cli/doctor/programs.ts'
import { python } from '../../../cli/doctor/python.ts'
import { disk, port } from '../../../cli/doctor/serving.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-doctor-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('what a machine has', () => {
  test('Node.js', () => {
    expect(nodeVersion('20.1.0')).toMatchObject({ state: 'ok' })
    expect(nodeVersion('18.19.0')).toMatchObject({ state: 'error', remedy: 'install Node.js 20 or newer' })
  })

  test('instructions that the kernels use', () => {
    expect(processor(['sse2', 'avx2', 'avx512f'], 'x64')).toMatchObject({ state: 'ok' })
    expect(processor(['sse2', 'avx2', 'avx512f'], 'x64').found).toMatch(/AVX-512, AVX2$/)
    expect(processor(['sse2'], 'x64')).toMatchObject({ state: 'warning' })
    expect(processor(['asimd', 'bf16'], 'arm64').found).toMatch(/BF16, NEON$/)
    // Where the system does not say, nothing is claimed.
    expect(processor(undefined, 'x64')).toMatchObject({ state: 'ok' })
  })

  test('memory, of the machine and of a container', () => {
    expect(memory(8e9, undefined)).toMatchObject({ state: 'ok' })
    expect(memory(8e9, 5e8)).toMatchObject({ state: 'warning', found: expect.stringContaining('container') })
    expect(memory(5e8, undefined)).toMatchObject({ state: 'warning' })
  })

  test('an engine, and one that does not load', () => {
    const file = join(folder, 'apar.node')
    expect(engine(file)).toMatchObject({ state: 'error', found: 'not built' })
    writeFileSync(file, 'no library')
    expect(engine(file)).toMatchObject({
      state: 'error',
      found: expect.stringMatching(/^cannot be loaded: /),
    })
  })

  test('a GPU, with and without an engine for it', () => {
    const library = join(folder, 'libapar_cuda.so')
    expect(cuda([], library)).toMatchObject({ state: 'ok' })
    expect(cuda(['NVIDIA H100'], library)).toMatchObject({
      state: 'warning',
      remedy: expect.stringContaining('nvcc'),
    })
    writeFileSync(library, '')
    expect(cuda(['NVIDIA H100'], library)).toMatchObject({
      state: 'ok',
      found: expect.stringContaining('H100'),
    })
  })

  test('Python', async () => {
    expect(await python('/nowhere/python3')).toMatchObject({
      state: 'warning',
      found: '/nowhere/python3 is missing',
    })
  })

  test('room for models', async () => {
    expect((await disk(join(folder, 'not/yet/there'))).found).toMatch(/free for models in/)
  })

  test('a port', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port: taken } = holder.address() as AddressInfo
    expect(await port(taken)).toMatchObject({
      state: 'warning',
      remedy: 'apar serve --port 0 takes a free one',
    })
    holder.close()
    await once(holder, 'close')
    expect(await port(taken)).toMatchObject({ state: 'ok' })
  })
})
