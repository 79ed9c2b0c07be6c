import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  RunFolder,
  type RunSettings,
  readSettings,
  readTraces,
  traceName,
} from '../../../cli/trace/run-folder.ts'
import { findTrace } from '../../../cli/trace/show/find-trace.ts'
import { readTrace, type TraceLine, type TraceOfQuestion } from '../../../cli/trace/trace-file.ts'
import { traceOf } from './sample-trace.ts'

const RUN: RunSettings = {
  ...{ version: 1, dataset: 'mt_bench', questions: 'q', model: 'm', concurrency: 1 },
  ...{ where: { device: 'cpu' }, request: { max_tokens: 9 } },
}

let parent: string
let folder: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'apar-traces-'))
  folder = join(parent, 'run')
})
afterEach(() => rmSync(parent, { recursive: true }))

function linesOf({ head, turns }: TraceOfQuestion): TraceLine[] {
  const lines = turns.flatMap(({ begin, steps, end }): TraceLine[] => {
    return [begin, ...steps.map((step) => ({ type: 'step' as const, ...step })), end]
  })
  return [head, ...lines]
}

async function fill(ids: readonly string[]): Promise<void> {
  const run = await RunFolder.open(folder, RUN)
  for (const id of ids) run.add(id, 'parallel', linesOf(traceOf(id, 'parallel')))
  run.close()
}

describe('a folder of traces', () => {
  test('gives back what was written, in the order of the ids', async () => {
    await fill(['10', '9', '../x/y.z'])
    const traces = [...readTraces(folder)]
    expect(traces.map(({ head }) => head.id)).toEqual(['../x/y.z', '9', '10'])
    expect(traces[1]?.turns[0]?.steps).toMatchObject(traceOf('9', 'parallel').turns[0]?.steps ?? [])
    expect(readdirSync(parent)).toEqual(['run'])
    expect(readdirSync(folder).filter((name) => name.endsWith('.lock') || name.endsWith('.partial'))).toEqual(
      [],
    )
  })

  test('goes on with what is missing', async () => {
    await fill(['1'])
    const run = await RunFolder.open(folder, RUN)
    expect([run.has('1', 'parallel'), run.has('1', 'serial'), run.has('2', 'parallel')]).toEqual([
      true,
      false,
      false,
    ])
    run.close()
  })

  test('has answers of one kind, and one writer at a time', async () => {
    await fill(['1'])
    const other = { ...RUN, request: { max_tokens: 10 } }
    await expect(RunFolder.open(folder, other)).rejects.toMatchObject({
      code: 'foreign_folder',
      message: expect.stringContaining('(request.max_tokens 9, now 10)'),
    })
    const run = await RunFolder.open(folder, RUN)
    await expect(RunFolder.open(folder, RUN)).rejects.toMatchObject({ code: 'run_in_use' })
    run.close()
    writeFileSync(join(parent, 'notes.txt'), '')
    await expect(RunFolder.open(parent, RUN)).rejects.toMatchObject({ code: 'foreign_folder' })
  })

  test('whose settings are damaged is told from one without', async () => {
    await fill(['1'])
    writeFileSync(join(folder, 'run.json'), '{')
    await expect(RunFolder.open(folder, RUN)).rejects.toThrow('run.json is damaged, or of another version')
    rmSync(join(folder, 'run.json'))
    expect(() => readSettings(folder)).toThrow('no run.json')
  })

  test('has a file whatever its id is', async () => {
    const ids = ['a', 'b', '..', 'ä/ö'].map((end) => 'ü'.repeat(150) + end)
    await fill(['..', ...ids])
    for (const id of ['..', ...ids]) expect(findTrace(id, parent).map(({ head }) => head.id)).toEqual([id])
  })

  test('of a newer version, damaged or cut off is refused with the place', async () => {
    await fill(['1'])
    const path = join(folder, traceName('1', 'parallel'))
    const write = (...lines: object[]) =>
      writeFileSync(path, gzipSync(lines.map((line) => `${JSON.stringify(line)}\n`).join('')))
    const { head, turns } = traceOf('1', 'parallel')
    write({ ...head, version: 2 })
    expect(() => readTrace(path)).toThrow(`${path}:1: no line of a trace of version 1`)
    write(head, { type: 'step', ...turns[0]?.steps[0] })
    expect(() => readTrace(path)).toThrow(`${path}:2: step outside a turn`)
    write(head, head)
    expect(() => readTrace(path)).toThrow(':2: a trace begins with one line')
    write(head, ...(turns[0] ? [turns[0].begin] : []))
    expect(readTrace(path).turns).toEqual([])
    truncateSync(path, 30)
    expect(() => readTrace(path)).toThrow('cut off')
  })

  test('is searched for a question by id or file', async () => {
    await fill(['1'])
    expect(findTrace('1', parent).map(({ head }) => head.mode)).toEqual(['parallel'])
    expect(findTrace(join(folder, traceName('1', 'parallel')), 'elsewhere')).toHaveLength(1)
    expect(() => findTrace('2', parent)).toThrow('2: no trace of it in')
    expect(() => findTrace('1', join(parent, 'none'))).toThrow('there is no folder')
    folder = join(parent, 'second')
    await fill(['1'])
    expect(() => findTrace('1', parent)).toThrow('run, second have a trace of it')
  })
})
