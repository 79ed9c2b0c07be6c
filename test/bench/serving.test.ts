import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { BenchCase } from '../../bench/report.ts'
import { ReplayedAnswers, readReplayedAnswers } from '../../bench/serving/answers.ts'
import {
  type Measured,
  ratiosOf,
  tokensPerSecondWhileWaiting,
  valueRow,
} from '../../bench/serving/measured.ts'
import { writePage } from '../../bench/serving/page.ts'
import { concurrencyCases } from '../../bench/serving/parts/concurrency.ts'
import { deadline, deadlineCases, serialTokenMs } from '../../bench/serving/parts/deadline.ts'
import { inFlightCases } from '../../bench/serving/parts/in-flight.ts'
import { lowLoad, lowLoadCases } from '../../bench/serving/parts/low-load.ts'
import { recorderCases } from '../../bench/serving/parts/recorder.ts'
import { saturationCases } from '../../bench/serving/parts/saturation.ts'
import { batchPlots } from '../../bench/serving/plots.ts'
import { writeRandomModel } from '../../bench/serving/random-model.ts'
import type { Stand } from '../../bench/serving/stand.ts'
import { inTurns } from '../../bench/serving/turns.ts'
import type { CellSummary } from '../../cli/bench/serving/report/summary.ts'
import { plotSvg } from '../../cli/plot/plot.ts'
import { AnswerForcer } from '../../cli/replay/forced-answer.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { LIST, NESTED, SENTENCE } from '../cli/replay/garden.ts'
import { requires } from '../support/requires.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-bench-serving-'))
afterAll(() => rmSync(folder, { recursive: true }))

const DEMO = join(packageRoot, 'models/demo')
const APAR = join(packageRoot, 'dist/apar.js')

const SUMMARY: CellSummary = {
  ...{ mode: 'serial', rate: null, concurrency: null, requests: 2, completed: 2, errors: {}, duration_s: 10 },
  ...{
    requests_per_s: 0.2,
    output_tokens_per_s: 20,
    prompt_tokens: 20,
    cached_tokens: 0,
    output_tokens: 200,
  },
  ...{ uncounted: 0, ttft_ms: null, tpot_ms: null, itl_ms: null, wait_ms: null, goodput: null },
  e2e_ms: { mean: 4000, p50: 4000, p90: 5000, p95: 5000, p99: 5000 },
  client: { loop_late_p99_ms: 0, loop_late_max_ms: 0, sent_late_p99_ms: 0, cpu: 0, late: false },
  node: { kv_peak: 0.5, steps: 100, kv_blocks: 100 },
}

function measured(way: string, summary: Partial<CellSummary>, more: Partial<Measured> = {}): Measured {
  return {
    ...{ way, samples: [], waitingRate: undefined, processorUs: undefined, ...more },
    summary: { ...SUMMARY, ...summary },
  }
}

function sample(id: string, e2e_ms: number) {
  return { id, e2e_ms, sent_ms: 0, ttft_ms: 1, tpot_ms: 1, prompt_tokens: 10, output_tokens: 100 }
}

/** Value and goal by the name of the row. */
function rows(cases: readonly BenchCase[]) {
  return Object.fromEntries(cases.map(({ case: name, value, goal }) => [name, [value, goal]]))
}

describe('ways in turn', () => {
  const clock = () => {
    let ms = 0
    const order: string[] = []
    const way = (name: string, seconds: number) => async (repetition: number) => {
      order.push(`${name}${repetition}`)
      ms += 1000 * seconds
      return name
    }
    return { way, order, now: () => ms }
  }

  test('another one is first in each repetition; results keep their order', async () => {
    const { way, order, now } = clock()
    const repetitions = await inTurns([way('a', 1), way('b', 1)], { seconds: 100, most: 3 }, now)
    expect(order).toEqual(['a0', 'b0', 'b1', 'a1', 'a2', 'b2'])
    expect(repetitions).toEqual(Array.from({ length: 3 }, () => ['a', 'b']))
  })

  test('no repetition begins that would end too late, but the first one does', async () => {
    const { way, now } = clock()
    expect(await inTurns([way('a', 2), way('b', 2)], { seconds: 9, most: 50 }, now)).toHaveLength(2)
    expect(await inTurns([way('a', 20)], { seconds: 9, most: 50 }, now)).toHaveLength(1)
  })
})

describe('answers that are replayed', () => {
  const forcer = new AnswerForcer(readCheckpoint(DEMO))
  const all = [LIST, NESTED, SENTENCE].map((answer, index) => {
    const forced = forcer.force(answer)
    return { id: `q${index}`, prompt: `question ${index}`, forced, tokens: 100 * (3 - index) }
  })
  const answers = new ReplayedAnswers('garden', all)
  const ids = (count: number) =>
    answers
      .take(count)
      .prompts(0, () => 1)
      .map(({ id }) => id)

  test('are spread over the set, and begin again with other names', () => {
    expect(ids(1)).toEqual(['q0'])
    expect(ids(2)).toEqual(['q0', 'q1'])
    expect(ids(5)).toEqual(['q0', 'q1', 'q2', 'q0#2', 'q1#2'])
  })

  test('know which of them fork, whatever their name', () => {
    expect(['q0', 'q1#2', 'q2', 'q2#3'].map((id) => answers.forks(id))).toEqual([true, true, false, false])
  })

  test('the shorter half', () => {
    expect(answers.meanTokens).toBe(200)
    expect(answers.shorter().meanTokens).toBe(150)
  })

  test('there are some in a checkout without published ones', async () => {
    const here = process.cwd()
    const elsewhere = mkdtempSync(join(folder, 'checkout-'))
    const data = 'models/smollm2-135m-apar/data'
    cpSync(join(packageRoot, data), join(elsewhere, data), { recursive: true })
    process.chdir(elsewhere)
    try {
      const own = await readReplayedAnswers(forcer)
      expect(own.name).toContain('SmolLM2')
      const some = own.take(80).prompts(0, () => 1)
      expect(some.filter(({ id }) => own.forks(id)).length).toBeGreaterThan(0)
    } finally {
      process.chdir(here)
    }
  })
})

test('a model of random weights forks', () => {
  const tiny = { hiddenSize: 64, intermediateSize: 64, numLayers: 1, numHeads: 1, numKvHeads: 1 }
  writeRandomModel(folder, { ...tiny, tieWordEmbeddings: true })
  const checkpoint = readCheckpoint(folder)
  expect(checkpoint.shape).toMatchObject({ hiddenSize: 64, numLayers: 1, headDim: 64 })
  expect(new AnswerForcer(checkpoint).force(LIST)).toHaveLength(4)
})

describe('figures', () => {
  test('ratios are of one repetition; what is missing is left out', () => {
    const of = ({ processorUs }: Measured) => processorUs
    const repetitions = [
      [measured('a', {}, { processorUs: 2 }), measured('b', {}, { processorUs: 4 })],
      [measured('b', {}, { processorUs: 10 }), measured('a', {}, { processorUs: 20 })],
      [measured('a', {}), measured('b', {}, { processorUs: 1 })],
      [measured('a', {}, { processorUs: 1 }), measured('b', {}, { processorUs: 0 })],
    ]
    expect(ratiosOf(repetitions, ['a', 'b'], of)).toEqual([0.5, 2])
  })

  test('a row has the median and the spread; there is none of nothing', () => {
    const [row] = valueRow('x', [3, 1, 2], { unit: 's', better: 'lower', goal: 2 })
    expect(row).toMatchObject({ case: 'x', value: 2, low: 1, high: 3, goal: 2 })
    expect(valueRow('x', [], { unit: 's', better: 'lower', goal: 2 })).toEqual([])
  })

  test('tokens per second while requests wait, not before and not behind', () => {
    const reading = (at_ms: number, waiting_requests: number, generated_tokens: number) => ({
      ...{ at_ms, waiting_requests, generated_tokens },
    })
    const readings = [reading(0, 0, 0), reading(1000, 5, 100), reading(3000, 1, 500), reading(9000, 0, 600)]
    expect(tokensPerSecondWhileWaiting(readings)).toBe(200)
    expect(tokensPerSecondWhileWaiting(readings.slice(0, 2))).toBeUndefined()
  })

  test('low load: wall-clock of all answers, of those that fork and of the others', () => {
    const serial = measured('serial', {}, { samples: [sample('fork', 300), sample('plain', 100)] })
    const parallel = measured(
      'parallel',
      { node: { steps: 60, kv_peak: 0.4 } },
      { samples: [sample('fork', 100), sample('plain', 100)] },
    )
    const cases = lowLoadCases([[serial, parallel]], { forks: (id) => id === 'fork' })
    expect(rows(cases)).toEqual({
      'low load, parallel over serial: wall-clock': [0.5, 0.5],
      'low load, parallel over serial: wall-clock of answers that fork': [0.3333, null],
      'low load, parallel over serial: wall-clock of the others': [1, null],
      'low load, parallel over serial: steps': [0.6, null],
      'low load, parallel over serial: KV peak': [0.8, 1],
    })
  })

  test('saturation: at each size of the KV memory, and never below serial', () => {
    const size = (blocks: number, requests_per_s: number) => ({
      blocks,
      repetitions: [
        [
          measured('serial', {}, { waitingRate: 1 }),
          measured('parallel', { requests_per_s }, { waitingRate: 1.5 }),
        ],
      ],
    })
    expect(rows(saturationCases([size(50, 0.3), size(100, 0.18)]))).toMatchObject({
      'saturation, parallel over serial, 50 KV blocks: throughput': [1.5, 1.3],
      'saturation, parallel over serial, 50 KV blocks: throughput while requests wait': [1.5, 1.3],
      'saturation, parallel over serial, 100 KV blocks: throughput': [0.9, 1.3],
      'saturation, parallel over serial: throughput, the least of all': [0.9, 1],
    })
  })

  test('latency with many in flight', () => {
    const faster = { e2e_ms: { mean: 2000, p50: 2000, p90: 2000, p95: 2000, p99: 4000 } }
    const repetitions = [[measured('serial', {}), measured('parallel', faster)]]
    expect(rows(concurrencyCases([{ concurrency: 16, repetitions }]))).toMatchObject({
      '16 in flight, parallel over serial: mean time of an answer': [0.5, 0.65],
      '16 in flight, parallel over serial: p99 of the time of an answer': [0.8, null],
      '16 in flight, parallel over serial: KV peak': [1, 1],
    })
  })

  test('deadline: goals at the overload, and against serial at every rate', () => {
    const good = (way: string, requests_per_s: number) =>
      measured(way, { goodput: { share: 0.5, requests_per_s } })
    const at = (share: number, deadlines: number, eager: number, serial: number) => ({
      share,
      repetitions: [[good('deadline', deadlines), good('eager', eager), good('serial', serial)]],
    })
    const cases = rows(deadlineCases(2, [at(0.8, 0.9, 1, 1), at(1.2, 1.6, 0, 0.8)]))
    expect(cases).toMatchObject({
      'deadline at 0.8 of the serial saturation: goodput over always-fork': [0.9, null],
      // None was good: as if one had been, in 10 s.
      'deadline at 1.2 of the serial saturation: goodput over always-fork': [16, 1.5],
      'deadline at 1.2 of the serial saturation: goodput over serial': [2, 1],
      'deadline: goodput over serial, the least of all': [0.9, 1],
      'goodput at 1.2 of the serial saturation, eager': [0, null],
    })
  })

  test('a serial token takes no less than a step, however late the client reads it', () => {
    const each = (p50: number) => ({ mean: p50, p50, p90: p50, p95: p50, p99: p50 })
    expect(serialTokenMs({ ...SUMMARY, tpot_ms: each(150) })).toBe(150)
    expect(serialTokenMs({ ...SUMMARY, tpot_ms: each(0.003) })).toBe(100)
    expect(() => serialTokenMs({ ...SUMMARY, node: null })).toThrow('no step')
  })

  test('traces: throughput and processor time', () => {
    const cases = recorderCases([
      [
        measured('without', {}, { processorUs: 100 }),
        measured('with traces', { output_tokens_per_s: 19 }, { processorUs: 102 }),
      ],
    ])
    expect(rows(cases)).toEqual({
      'traces, of the same without, 16 in flight: throughput': [0.95, 0.99],
      'traces, of the same without, 16 in flight: processor time of a token': [1.02, 1.01],
    })
  })

  test('many in flight: what failed, how many there were at a time, and their memory', () => {
    const summary = {
      ...SUMMARY,
      requests: 1400,
      completed: 1400,
      prompt_tokens: 14_000,
      output_tokens: 434_000,
    }
    const readings = [
      { at_ms: 0, running_requests: 0, waiting_requests: 0 },
      { at_ms: 250, running_requests: 200, waiting_requests: 800 },
    ]
    const cases = inFlightCases({ ...summary, node: { kv_blocks: 1800, preemptions: 7 } }, readings)
    expect(rows(cases)).toEqual({
      'many in flight: failed requests': [0, 0],
      'many in flight: requests at a time': [1000, 1000],
      // 320 tokens each.
      'many in flight: KV memory, of what the requests at that time need': [0.09, 0.1],
      'many in flight: pre-emptions': [7, null],
    })
  })
})

describe.skipIf(!requires('dist/apar.js (npm run setup)', () => existsSync(APAR)))('a run', () => {
  const lines: Record<string, unknown>[] = []
  const forcer = new AnswerForcer(readCheckpoint(DEMO))
  const answers = [LIST, NESTED, SENTENCE].map((answer, index) => {
    const forced = forcer.force(answer)
    const tokens = forced.reduce((sum, branch) => sum + branch.tokens.length, 0)
    return { id: `q${index}`, prompt: `question ${index}`, forced, tokens }
  })
  const stand: Stand = {
    ...{ quick: true, name: 'demo', model: DEMO, script: APAR, nodeArguments: ['--threads', '1'] },
    ...{ answers: new ReplayedAnswers('garden', answers), pace: { alone: 1000, crowd: 1000 }, log: () => {} },
    file: {
      add: (line) => {
        lines.push({ commit: 'abc', machine: 'a machine', ...line })
      },
    },
  }
  const keep = (part: string, cases: readonly BenchCase[]) => {
    for (const row of cases) stand.file.add({ part, type: 'case', ...row })
  }

  test('replays with and without branches, and finds the rate that saturates', async () => {
    stand.file.add({ type: 'run', parts: [], options: ['--json'], model: 'demo', answers: 'garden' })
    const low = await lowLoad(stand, 0.5)
    const steps = low.find(({ case: name }) => name.endsWith('steps'))
    // The lists have three details each.
    expect(steps?.value).toBeLessThan(0.9)
    keep('low-load', low)
    const cases = await deadline(stand, 3)
    const names = cases.map(({ case: name }) => name)
    for (const name of ['always-fork', 'serial'])
      expect(names).toContain(`deadline at 1.2 of the serial saturation: goodput over ${name}`)
    keep('deadline', cases)
    const requests = lines.filter(({ type, part }) => type === 'request' && part === 'low-load')
    expect(new Set(requests.map(({ way }) => way))).toEqual(new Set(['serial', 'parallel']))
  }, 120_000)

  test('has a page with its figures, plots and samples', async () => {
    const [samples, page] = ['samples.jsonl', '2026-01-02-serving.md'].map((name) => join(folder, name)) as [
      string,
      string,
    ]
    writeFileSync(samples, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    await writePage(samples, page)
    const text = readFileSync(page, 'utf8')
    expect(text).toContain('# 2026-01-02, parallel decoding under load')
    for (const run of ['serving --json`, commit abc', 'serving low-load --json`'])
      expect(text).toContain(`\`npm run -s bench -- ${run}`)
    expect(text).toMatch(
      /\| low load, parallel over serial: wall-clock \| [\d.]+ x \| .*\| ≤ 0\.5 \| (yes|no) \|/,
    )
    expect(text).toContain('![Deadlines: which forks are refused](2026-01-02-serving-deadline.svg)')
    const svg = readFileSync(join(folder, '2026-01-02-serving-deadline.svg'), 'utf8')
    for (const word of ['eager', 'Goodput over the rate of requests', 'garden']) expect(svg).toContain(word)
    expect(existsSync(join(folder, '2026-01-02-serving.jsonl.gz'))).toBe(true)
    // Nothing was measured over it.
    expect(existsSync(join(folder, '2026-01-02-serving-saturation.svg'))).toBe(false)
  })

  test('draws the tokens in the batch, a line for each way and size of the memory', async () => {
    const line = (way: string, at_ms: number) => ({
      ...({ type: 'node', part: 'saturation', way, repetition: 0, blocks: 50 } as const),
      ...{ at_ms, steps: at_ms / 10, generated_tokens: at_ms },
    })
    const lines = ['serial', 'parallel'].flatMap((way) => [0, 250, 500].map((at) => line(way, at)))
    const [batch] = batchPlots(lines, 'of a test')
    expect(batch?.name).toBe('saturation-batch')
    expect(batch && (await plotSvg(batch.plot))).toContain('Tokens in the batch')
    expect(batchPlots([], '')).toEqual([])
  })

  test('without figures has no page', async () => {
    const samples = join(folder, 'aborted.jsonl')
    writeFileSync(samples, `${JSON.stringify({ ...lines[0] })}\n`)
    await expect(writePage(samples, join(folder, 'x.md'))).rejects.toThrow('no figures')
  })
})
