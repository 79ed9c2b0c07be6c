import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CellSettings, Sample } from '../../cli/bench/serving/load/sample.ts'
import { type Cell, runServing, type ServingPlan } from '../../cli/bench/serving/run-serving.ts'
import { httpTarget } from '../../cli/bench/serving/target/http-target.ts'
import { ROUTES, type RouteName } from '../../cli/bench/serving/target/routes.ts'
import { socketTarget } from '../../cli/bench/serving/target/socket-target.ts'
import { openWorkload, type Workload } from '../../cli/bench/serving/workload/workload.ts'
import { type Stack, startStack } from './stack.ts'

const METRICS_SECRET = 'metrics-secret-of-the-bench'

let stack: Stack
let questions: Workload
beforeAll(async () => {
  stack = await startStack({ metricsSecret: METRICS_SECRET })
  questions = await openWorkload({ ...UNSET, dataset: 'bench/apar/demo-prompts.jsonl', limit: 3 })
})
afterAll(async () => {
  await stack?.close()
})

const UNSET = {
  ...{ dataset: undefined, data: undefined, arrivals: undefined, limit: undefined },
  ...{ inputTokens: { from: 40, to: 60 }, outputTokens: undefined, seed: 1 },
}

async function run(more: Partial<ServingPlan>): Promise<Cell[]> {
  const target = more.target ?? httpTarget(ROUTES.chat, poster())
  try {
    return await runServing({
      ...{ target, model: 'demo', workload: questions, modes: ['plain'], rates: [null], burstiness: 1 },
      ...{ concurrencies: [null], rounds: 1, maxTokens: 48, fixedLengths: true, temperature: 0, seed: 1 },
      ...{ warmUp: false, metrics: undefined, onSample: () => {}, log: () => {} },
      ...more,
    })
  } finally {
    target.close()
  }
}

function poster() {
  return { baseUrl: stack.url, key: stack.key, silenceMs: 60_000 }
}

function textsOf(cell: Cell | undefined): string[] {
  return cell?.samples.map(({ text, error }) => error ?? text) ?? []
}

describe('a bench of the demo model', () => {
  it('compares modes on one node, with what the node did', async () => {
    const metrics = { url: `${stack.node.url.replace(/^ws/, 'http')}/metrics`, secret: METRICS_SECRET }
    const seen: [CellSettings, number, Sample][] = []
    const cells = await run({
      ...{ modes: ['serial', 'parallel'], rounds: 2, concurrencies: [2], warmUp: true, metrics },
      onSample: (...args) => seen.push(args),
    })
    expect(cells.map(({ settings }) => settings.mode)).toEqual(['serial', 'parallel'])
    for (const cell of cells) {
      expect(cell.samples).toHaveLength(6)
      expect(cell.samples.map(({ error }) => error)).toEqual(Array(6).fill(null))
      const tokens = cell.samples.reduce((sum, { output_tokens }) => sum + output_tokens, 0)
      expect(tokens).toBeGreaterThan(0)
      // The node counts what is in usage.
      expect(cell.node?.generated_tokens).toBe(tokens)
      expect(cell.node?.steps).toBeGreaterThan(0)
      // The warm-up has put the prompts into the prefix cache, for both modes.
      expect(cell.samples.every(({ cached_tokens }) => Number(cached_tokens) > 0)).toBe(true)
    }
    // Which mode is first changes from round to round.
    const order = seen.map(([{ mode }, round]) => `${round} ${mode}`)
    expect([...new Set(order)]).toEqual(['0 serial', '0 parallel', '1 parallel', '1 serial'])
    // Branches take fewer steps for as many tokens.
    const perStep = cells.map(({ node }) => Number(node?.generated_tokens) / Number(node?.steps))
    expect(perStep[1]).toBeGreaterThan(perStep[0] ?? Number.NaN)
  })

  it('gets the same answers by every API that has the chat template', async () => {
    const [chat] = await run({})
    for (const route of ['responses', 'messages'] as RouteName[]) {
      const [cell] = await run({ target: httpTarget(ROUTES[route], poster()) })
      expect(textsOf(cell), route).toEqual(textsOf(chat))
      expect(cell?.samples.map(({ output_tokens, prompt_tokens }) => [output_tokens, prompt_tokens])).toEqual(
        chat?.samples.map(({ output_tokens, prompt_tokens }) => [output_tokens, prompt_tokens]),
      )
    }
    const [socket] = await run({ target: socketTarget({ baseUrl: stack.url, key: stack.key }) })
    expect(textsOf(socket)).toEqual(textsOf(chat))
  })

  it('gets the time of each step by every API, if it asks for traces', async () => {
    const targets = [
      ...Object.values(ROUTES).map((route) => httpTarget(route, poster())),
      socketTarget({ baseUrl: stack.url, key: stack.key }),
    ]
    for (const target of targets) {
      const [cell] = await run({ target, trace: true })
      for (const { error, steps_ms = [], output_tokens } of cell?.samples ?? []) {
        expect(error).toBeNull()
        // A step has one token of each branch; a prompt takes one step or more.
        expect(steps_ms.length).toBeGreaterThan(1)
        expect(steps_ms.length).toBeLessThan(output_tokens + 10)
        expect(steps_ms).toEqual([...steps_ms].sort((a, b) => a - b))
      }
    }
    const [untraced] = await run({})
    expect(untraced?.samples.every(({ steps_ms }) => steps_ms === undefined)).toBe(true)
  })

  it('makes prompts and answers of given lengths', async () => {
    const workload = await openWorkload({
      ...{ ...UNSET, dataset: 'random', limit: 4 },
      outputTokens: { from: 7, to: 9 },
    })
    for (const target of [
      httpTarget(ROUTES.completions, poster()),
      socketTarget({ baseUrl: stack.url, key: stack.key }),
    ]) {
      const [cell] = await run({ workload, target, modes: ['serial'], rates: [50] })
      for (const { error, prompt_tokens, cached_tokens, output_tokens } of cell?.samples ?? []) {
        expect(error).toBeNull()
        expect(output_tokens).toBeGreaterThanOrEqual(7)
        expect(output_tokens).toBeLessThanOrEqual(9)
        // The demo model's vocabulary is small: words have one token or a few.
        expect(Number(prompt_tokens)).toBeGreaterThan(25)
        expect(Number(prompt_tokens)).toBeLessThan(90)
        // At most what all prompts begin with.
        expect(Number(cached_tokens)).toBeLessThan(32)
      }
    }
  })

  it('counts refused requests by their code', async () => {
    const [cell] = await run({
      maxTokens: 1_000_000,
      workload: {
        ...questions,
        prompts: (...args) =>
          questions
            .prompts(...args)
            .map((each) => ({ ...each, messages: [{ role: 'user', content: 'word '.repeat(5000) }] })),
      },
    })
    expect(cell?.samples.map(({ error }) => error)).toEqual(Array(3).fill('context_length_exceeded'))
  })

  it('stops before anything is measured when the first request fails', async () => {
    await expect(run({ model: 'no-such-model' })).rejects.toMatchObject({ code: 'model_not_found' })
  })
})
