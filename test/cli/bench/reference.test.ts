import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { engineLog } from '../../../cli/bench/serving/output/engine-log.ts'
import { referenceFiles, referenceResponse } from '../../../cli/bench/serving/output/reference.ts'
import { sampleOf } from './sample.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-reference-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Of a load of 7 s, before it and four times a second, with a step of 4 tokens every 10 ms. */
const READINGS = Array.from({ length: 29 }, (_, index) => ({
  at_ms: 250 * index,
  ...{ running_requests: 3, waiting_requests: 40, branches: 9, preempted: 2, kv_usage: 0.5 },
  ...{ steps: 25 * index, generated_tokens: 100 * index, prefill_tokens: 50 * index },
}))

describe('the engine log of the reference', () => {
  test('has a line at the begin and one every 3 s', () => {
    const lines = engineLog(READINGS)
    expect(lines).toHaveLength(3)
    for (const line of lines)
      expect(line).toEqual({
        ...{ prompt_throughput: 200, generation_throughput: 400, running: 3, swapped: 2, pending: 40 },
        ...{ gpu_cache_usage: 0.5, cpu_cache_usage: 0 },
      })
  })

  test('of a load that ended at once has a line, too', () => {
    expect(engineLog(READINGS.slice(0, 2))).toHaveLength(1)
    expect(engineLog([])).toEqual([])
  })
})

describe('a result of the reference', () => {
  test('has seconds, and the tokens of prompt and branches', () => {
    expect(referenceResponse(sampleOf({ steps_ms: [10, 30, 500] }))).toEqual({
      ...{ prompt: 'Hello', text: 'Hi there.', elapse: 0.5, total_tokens: 13, prompt_tokens: 10 },
      ticks: [0.01, 0.03, 0.5],
    })
  })

  test('of a refused request has no times', () => {
    const refused = sampleOf({ error: 'overloaded', text: '', prompt_tokens: null, output_tokens: 0 })
    expect(referenceResponse(refused)).toMatchObject({
      ...{ text: '', elapse: null, ticks: null, total_tokens: 0, prompt_tokens: 0 },
    })
  })
})

test('the files of a measurement are named as the reference names them', () => {
  const out = referenceFiles(folder, { model: 'org/vicuna-7b', prompts: 'data/apar_testset.json' })
  const began = new Date(2026, 0, 5, 7, 8, 9, 12)
  const cell = { mode: 'parallel', rate: null, concurrency: 8, limits: { watermark: 0.1 } } as const
  const samples = [
    sampleOf({ id: 'a', prompt: 'first', steps_ms: [1] }),
    sampleOf({ id: 'b', prompt: 'second' }),
  ]
  out.round(cell, 0, { began, samples, readings: READINGS })
  const below = join(folder, 'parallel-watermark-0.1-8-in-flight')
  const suffix = 'model_vicuna-7b_prompt_apar_testset.json_time_2026-01-05-07:08:09.012000'
  expect(readdirSync(below).sort()).toEqual([`engine_log_${suffix}.jsonl`, `responses_${suffix}.json`])
  const read = (name: string) => readFileSync(join(below, name), 'utf8')
  const responses: Record<string, unknown>[] = JSON.parse(read(`responses_${suffix}.json`))
  expect(responses.map(({ prompt }) => prompt)).toEqual(['first', 'second'])
  for (const response of responses)
    expect(Object.keys(response)).toEqual([
      ...['prompt', 'text', 'elapse', 'total_tokens', 'prompt_tokens', 'ticks'],
    ])
  const lines = read(`engine_log_${suffix}.jsonl`).trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line))).toEqual(engineLog(READINGS))
})
