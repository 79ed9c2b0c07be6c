import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import type { CellSummary } from '../../../cli/bench/serving/report/summary.ts'
import { requires } from '../../support/requires.ts'
import { answerLines, LIST, NESTED, questionLines, SENTENCE } from '../replay/garden.ts'

const APAR = 'dist/apar.js'
const folder = mkdtempSync(join(tmpdir(), 'apar-bench-own-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function bench(...args: string[]) {
  const options = { env: { ...process.env, APAR_CONFIG: 'none', METRICS_SECRET: '' } }
  return await promisify(execFile)(process.execPath, [APAR, 'bench', 'serving', ...args], options)
}

// biome-ignore lint/suspicious/noExplicitAny: lines of several types
function linesOf(file: string): Record<string, any>[] {
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

describe.skipIf(!requires('dist/apar.js (npm run setup)', () => existsSync(APAR)))(
  'apar bench serving',
  () => {
    test('starts a server with the options of its gpu node, measures it and ends it', async () => {
      const out = join(folder, 'out.jsonl')
      const load = ['--model', 'demo', '--dataset', 'random', '--prompts', '6', '--input-tokens', '20-40']
      const more = [
        '--output-tokens',
        '8',
        '--modes',
        'serial,parallel',
        '--api',
        'websocket',
        '--out',
        out,
        '--json',
      ]
      const { stdout, stderr } = await bench(...load, ...more, '--', '--blocks', '40', '--no-prefix-cache')
      const { cells, where, model } = JSON.parse(stdout)
      expect([where, model]).toEqual(['local --blocks 40 --no-prefix-cache', 'demo'])
      for (const cell of cells) {
        expect(cell).toMatchObject({
          requests: 6,
          completed: 6,
          errors: {},
          output_tokens: 48,
          cached_tokens: 0,
        })
        // 6 prompts in 40 blocks: a share that can be seen.
        expect(cell.node.steps).toBeGreaterThan(0)
        expect(cell.node.generated_tokens).toBe(48)
      }
      expect(cells.map(({ mode }: { mode: string }) => mode)).toEqual(['serial', 'parallel'])
      const written = linesOf(out).filter(({ type }) => type !== 'node')
      expect(written).toHaveLength(1 + 12 + 2)
      // The node's log of requests does not hide the progress.
      expect(stderr).not.toContain('"request_id"')
    })

    test('sweeps limits: pre-empts for want of blocks, unless admission leaves some free; all requests end', async () => {
      const [out, plots] = ['tight.jsonl', 'plots'].map((name) => join(folder, name)) as [string, string]
      const load = ['--model', 'demo', '--dataset', 'random', '--prompts', '100', '--input-tokens', '40']
      const more = ['--output-tokens', '64', '--modes', 'parallel', '--out', out, '--plots', plots, '--json']
      const node = ['--sweep', 'watermark=0,0.8', '--', '--blocks', '68', '--max-branches', '256']
      const { stdout } = await bench(...load, ...more, ...node)
      const { cells, sweep, where } = JSON.parse(stdout)
      expect([where, sweep]).toEqual(['local --blocks 68 --max-branches 256', { watermark: [0, 0.8] }])
      expect(cells.map(({ limits }: CellSummary) => limits)).toEqual([{ watermark: 0 }, { watermark: 0.8 }])
      for (const cell of cells) expect(cell).toMatchObject({ requests: 100, completed: 100, errors: {} })
      const [eager, careful] = cells.map(({ node }: CellSummary) => node)
      expect(eager.preemptions).toBeGreaterThan(0)
      expect(careful.preemptions).toBe(0)
      // All of them together would need ten times the KV memory of the node.
      const lines = linesOf(out).filter(({ limits }) => limits?.watermark === 0)
      const needed = lines
        .filter(({ type }) => type === 'request')
        .map(({ prompt_tokens, output_tokens }) => Math.ceil((prompt_tokens + output_tokens) / 16))
      expect(needed.reduce((sum, blocks) => sum + blocks, 0)).toBeGreaterThan(10 * eager.kv_blocks)
      expect(lines.filter(({ type }) => type === 'node').at(-1)).toMatchObject({
        ...{ steps: eager.steps, preemptions: eager.preemptions, kv_usage: 0 },
      })
      const files = readdirSync(plots)
      for (const name of ['throughput-over-watermark.svg', 'batch-over-time.svg'])
        expect(files).toContain(name)
    })

    test('writes results and engine logs of the reference', async () => {
      const out = join(folder, 'reference')
      const dataset = join(folder, 'three.jsonl')
      writeFileSync(dataset, questionLines)
      const load = [
        '--model',
        'demo',
        '--dataset',
        dataset,
        '--modes',
        'serial,parallel',
        '--max-tokens',
        '40',
      ]
      await bench(...load, '--format', 'reference', '--out', out)
      expect(readdirSync(out).sort()).toEqual(['parallel', 'serial'])
      const [log = '', responses = ''] = readdirSync(join(out, 'parallel')).sort()
      expect(log).toMatch(/^engine_log_model_demo_prompt_three\.jsonl_time_[\d:-]+\.\d{6}\.jsonl$/)
      expect(responses).toMatch(/^responses_model_demo_prompt_three\.jsonl_time_[\d:-]+\.\d{6}\.json$/)
      const results = JSON.parse(readFileSync(join(out, 'parallel', responses), 'utf8'))
      expect(results).toHaveLength(4)
      for (const { elapse, total_tokens, prompt_tokens, ticks } of results) {
        expect(prompt_tokens).toBeGreaterThan(0)
        expect(total_tokens).toBeGreaterThan(prompt_tokens)
        // A time for each step of the answer, and for those of its prompt.
        expect(ticks.length).toBeGreaterThan(1)
        expect(elapse).toBe(ticks.at(-1))
      }
      const [first] = linesOf(join(out, 'parallel', log))
      expect(Object.keys(first ?? {})).toHaveLength(7)
      expect(first?.generation_throughput).toBeGreaterThan(0)
    })

    test('replays published answers on its own gpu node: the same texts in both modes', async () => {
      const [questions, answers, out] = ['q.jsonl', 'a.jsonl', 'r.jsonl'].map((name) => join(folder, name))
      writeFileSync(questions as string, questionLines)
      writeFileSync(answers as string, answerLines)
      const load = ['--model', 'demo', '--dataset', questions, '--replay', answers, '--out', out] as string[]
      const { stdout } = await bench(...load, '--modes', 'serial,parallel', '--json')
      const { cells, api, workload } = JSON.parse(stdout)
      expect([api, workload]).toEqual(['gpu node', 'q, answers of poet-7b'])
      const [serial, parallel] = cells
      // Of four questions three were answered.
      for (const cell of cells) expect(cell).toMatchObject({ requests: 3, completed: 3, errors: {} })
      expect(serial.node.steps).toBeGreaterThan(parallel.node.steps)
      const lines = readFileSync(out as string, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
      const texts = lines
        .filter(({ type }) => type === 'request')
        .map(({ mode, id, text }) => [mode, id, text])
      const modes = ['serial', 'parallel']
      expect(texts.sort()).toEqual(
        modes.flatMap((mode) => [LIST, NESTED, SENTENCE].map((text, i) => [mode, `${i + 1}`, text])).sort(),
      )
    })

    test('writes results and engine logs of the reference for a replay, too', async () => {
      const [questions, answers] = ['q2.jsonl', 'a2.jsonl'].map((name) => join(folder, name)) as [
        string,
        string,
      ]
      const out = join(folder, 'replayed')
      writeFileSync(questions, questionLines)
      writeFileSync(answers, answerLines)
      const load = ['--model', 'demo', '--dataset', questions, '--replay', answers]
      await bench(...load, '--modes', 'serial,parallel', '--format', 'reference', '--out', out)
      const resultsOf = (mode: string) => {
        const [log = '', responses = ''] = readdirSync(join(out, mode)).sort()
        expect(linesOf(join(out, mode, log)).at(0)?.generation_throughput).toBeGreaterThan(0)
        const results = JSON.parse(readFileSync(join(out, mode, responses), 'utf8'))
        expect(results.map(({ text }: { text: string }) => text)).toEqual([LIST, NESTED, SENTENCE])
        return results
      }
      const [serial, parallel] = [resultsOf('serial'), resultsOf('parallel')]
      for (const [index, forks] of [3, 6, 0].entries()) {
        // [Fork] and [Child] of each detail.
        expect(parallel[index].total_tokens - serial[index].total_tokens).toBe(2 * forks)
        if (forks > 0) expect(parallel[index].ticks.length).toBeLessThan(serial[index].ticks.length)
        expect(parallel[index].elapse).toBe(parallel[index].ticks.at(-1))
      }
    })

    test('refuses what a replay has not', async () => {
      const load = ['--model', 'demo', '--dataset', 'random', '--replay', 'x.jsonl']
      const refused = (stderr: string) => ({ stderr: expect.stringContaining(stderr) })
      await expect(bench(...load)).rejects.toMatchObject(refused('--dataset must have questions'))
      await expect(bench(...load, '--url', 'http://x')).rejects.toMatchObject(refused('cannot be used with'))
      const drafts = ['--model', 'demo', '--dataset', join(folder, 'q.jsonl'), '--replay', 'x.jsonl']
      await expect(bench(...drafts, '--modes', 'ngram')).rejects.toMatchObject(refused('drafts nothing'))
    })

    test('says in one line what is wrong with the model', async () => {
      const failed = bench('--model', 'no-such-model', '--dataset', 'random')
      await expect(failed).rejects.toMatchObject({ code: 1, stderr: expect.stringMatching(/^apar: .*\n$/) })
    })
  },
)
