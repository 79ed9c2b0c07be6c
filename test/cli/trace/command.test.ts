import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { figuresOf } from '../../../cli/trace/report/measure.ts'
import { readTraces } from '../../../cli/trace/run-folder.ts'
import { requires } from '../../support/requires.ts'
import { answerLines, LIST, questionLines } from '../replay/garden.ts'

const APAR = 'dist/apar.js'
const BUILT = () => existsSync(APAR) && existsSync('native/build/release/apar.node')

describe.skipIf(!requires('the built engine and dist/apar.js', BUILT))(
  'apar trace',
  { timeout: 120_000 },
  () => {
    let folder: string
    let other: string
    let out: string
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'apar-trace-'))
      other = mkdtempSync(join(tmpdir(), 'apar-replay-trace-'))
      out = join(folder, 'run')
      const questions = [
        { question_id: 1, category: 'commands', turns: ['How do I use tar?', 'And rm?'] },
        { question_id: 2, category: 'other', turns: ['What is a shell?'] },
        { question_id: 3, category: 'other', turns: ['How do I use ls?', 'Why? '.repeat(3000)] },
      ]
      writeFileSync(join(folder, 'q.jsonl'), questions.map((line) => `${JSON.stringify(line)}\n`).join(''))
      first = await record('--concurrency', '3')
    }, 120_000)
    afterAll(() => {
      rmSync(folder, { recursive: true })
      rmSync(other, { recursive: true })
    })
    let first: Outcome

    interface Outcome {
      code: number
      stdout: string
      stderr: string
    }
    async function apar(...args: string[]): Promise<Outcome> {
      try {
        return { code: 0, ...(await promisify(execFile)(process.execPath, [APAR, 'trace', ...args])) }
      } catch (error) {
        return error as Outcome
      }
    }
    function record(...args: string[]): Promise<Outcome> {
      const model = ['--model', 'demo', '--threads', '1', '--max-tokens', '150', '--device', 'cpu']
      return apar('--dataset', join(folder, 'q.jsonl'), ...model, '--out', out, ...args)
    }

    test('records a replay of published answers, of the questions that have one', async () => {
      const [set, answers, replayed] = ['set.jsonl', 'a.jsonl', 'replayed'].map((name) => join(other, name))
      writeFileSync(set as string, questionLines)
      writeFileSync(answers as string, answerLines)
      const model = ['--model', 'demo', '--threads', '1', '--device', 'cpu', '--replay', answers as string]
      const { code } = await apar('--dataset', set as string, '--out', replayed as string, ...model)
      expect(code).toBe(0)
      const traces = [...readTraces(replayed as string)]
      expect(traces.map(({ head }) => head.id)).toEqual(['1', '1', '2', '2', '3', '3'])
      const [parallel, serial] = traces.map(({ turns }) => turns[0])
      expect([parallel?.end.text, serial?.end.text]).toEqual([LIST, LIST])
      expect([parallel?.end.usage.branches.length, serial?.end.usage.branches.length]).toEqual([4, 1])
      expect(serial?.steps.length).toBeGreaterThan(1.5 * (parallel?.steps.length ?? 0))
      // Answers of another file belong into another folder.
      writeFileSync(answers as string, answerLines.replace('dusk', 'dawn'))
      const changed = await apar('--dataset', set as string, '--out', replayed as string, ...model)
      expect(changed.stderr).toContain('that were made otherwise')
    })

    test('records both modes of each question, second turns included', () => {
      expect(first).toMatchObject({ code: 0, stdout: `traces of 3 questions → ${out}\n` })
      const traces = [...readTraces(out)]
      expect(
        traces.map(({ head, turns, refused }) => [head.id, head.mode, turns.length, refused?.code]),
      ).toEqual([
        ['1', 'parallel', 2, undefined],
        ['1', 'serial', 2, undefined],
        ['2', 'parallel', 1, undefined],
        ['2', 'serial', 1, undefined],
        ['3', 'parallel', 1, 'context_length_exceeded'],
        ['3', 'serial', 1, 'context_length_exceeded'],
      ])
      for (const trace of traces) {
        for (const { steps, end } of trace.turns) {
          const prompt = steps[0]?.prompt?.length ?? 0
          expect(prompt).toBe(end.usage.prompt_tokens)
          expect(steps.reduce((sum, { rows }) => sum + rows, 0)).toBeGreaterThanOrEqual(prompt)
          const perBranch = new Map<number, number>()
          for (const { branch, ids } of steps.flatMap(({ tokens }) => tokens))
            perBranch.set(branch, (perBranch.get(branch) ?? 0) + ids.length)
          const given = end.usage.branches.map(({ branch, completion_tokens }) => [branch, completion_tokens])
          expect([...perBranch].sort(([a], [b]) => a - b)).toEqual(given)
        }
      }
      const [parallel, serial] = traces.map((trace) => figuresOf(trace)[0])
      expect(parallel?.branches).toBeGreaterThan(1)
      expect(serial?.branches).toBe(1)
    })

    test('goes on where it was ended, and refuses other settings', async () => {
      const [gone = '', ...others] = readdirSync(out).filter((name) => name.endsWith('.gz'))
      const times = () => others.map((name) => statSync(join(out, name)).mtimeMs)
      const before = times()
      rmSync(join(out, gone))
      const again = await record('--concurrency', '3')
      expect(again.stderr).toContain('6 traces to make, 5 are there')
      expect(readdirSync(out)).toContain(gone)
      expect(times()).toEqual(before)
      expect(await record('--concurrency', '3', '--temperature', '1')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('(foreign_folder)'),
      })
    })

    test('reports, shows and exports them', async () => {
      const report = await apar('report', out, '--format', 'json', '--plots', join(folder, 'plots'))
      const { runs } = JSON.parse(report.stdout)
      expect(runs[0].categories.map(({ category }: { category: string }) => category)).toEqual([
        'commands',
        'other',
      ])
      expect(runs[0].all.speedup.answers).toBe(4)
      expect(runs[0].refused).toEqual({ context_length_exceeded: 2 })
      expect(runs[0].all.speedup.steps).toBeGreaterThan(1)
      expect(readdirSync(join(folder, 'plots'))).toContain('speed-up.png')
      expect((await apar('report', out)).stdout).toContain('Speed of parallel against serial decoding')
      expect((await apar('show', '1', '--in', folder, '--mode', 'parallel')).stdout).toContain(
        'parallel, turn 2: And rm?',
      )
      const page = join(folder, 'page.html')
      expect(await apar('show', '1', '--in', out, '--html', page)).toMatchObject({ code: 0 })
      expect(readFileSync(page, 'utf8')).toMatch(/^<!doctype html>/)
      const file = join(folder, 'trace.json')
      expect(await apar('export', out, '--format', 'reference', '--out', file)).toMatchObject({ code: 0 })
      const exported = JSON.parse(readFileSync(file, 'utf8'))
      expect(exported.map(({ question_id }: { question_id: number }) => question_id)).toEqual([1, 2, 3])
      expect(exported[0].traces).toHaveLength(2)
    })

    test('exports to a pipe, which stays one', async () => {
      const pipe = join(folder, 'pipe')
      execFileSync('mkfifo', [pipe])
      const read = promisify(execFile)('cat', [pipe])
      const export_ = await apar('export', out, '--format', 'reference', '--out', pipe)
      expect(export_).toMatchObject({ code: 0 })
      expect(JSON.parse((await read).stdout)).toHaveLength(3)
      expect(statSync(pipe).isFIFO()).toBe(true)
    })

    test.each([
      [[], '--dataset is needed'],
      [['--dataset', 'mt_bench'], '--data: name the folder'],
      [['--dataset', APAR, '--url', 'http://127.0.0.1:9', '--key', 'k', '--threads', '1'], 'not valid JSON'],
      [['report', 'docs'], 'not a folder of apar trace'],
      [['show', 'x', '--in', 'docs/adr'], 'no trace of it'],
    ])('refuses %j in one line', async (args, why) => {
      const { code, stderr } = await apar(...args)
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(why) })
      expect(stderr.trim().split('\n')).toHaveLength(1)
    })
  },
)
