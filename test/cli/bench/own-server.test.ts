import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, test } from 'vitest'
import { requires } from '../../support/requires.ts'
import { answerLines, LIST, NESTED, questionLines, SENTENCE } from '../replay/garden.ts'

const APAR = 'dist/apar.js'
const folder = mkdtempSync(join(tmpdir(), 'apar-bench-own-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function bench(...args: string[]) {
  const options = { env: { ...process.env, APAR_CONFIG: 'none', METRICS_SECRET: '' } }
  return await promisify(execFile)(process.execPath, [APAR, 'bench', 'serving', ...args], options)
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
      expect(readFileSync(out, 'utf8').trim().split('\n')).toHaveLength(1 + 12 + 2)
      // The node's log of requests does not hide the progress.
      expect(stderr).not.toContain('"request_id"')
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
