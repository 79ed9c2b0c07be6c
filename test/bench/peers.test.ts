import { expect, test } from 'vitest'
import { checkpointPath } from '../../bench/peers/checkpoint.ts'
import { openDriver } from '../../bench/peers/openvino.ts'
import { requestsOf } from '../../bench/peers/requests.ts'
import { checkSameWork, type Run, type SideName } from '../../bench/peers/side.ts'
import { agreement, summarise, type Turn } from '../../bench/peers/summary.ts'
import type { KnownModels } from '../../cli/models/known.ts'

const answer = (output_tokens: number, ttft_ms: number, text = '', prompt_tokens = 10) => ({
  ...{ output_tokens, ttft_ms, text, prompt_tokens },
})
const run = (seconds: number, ...answers: Run['answers']): Run => ({ seconds, answers })
const turn = (runs: Partial<Record<SideName, Run>>) => new Map(Object.entries(runs)) as Turn

test('ratios are of one turn each, and their median is reported', () => {
  const turns = [
    turn({ ours: run(1, answer(100, 10)), vLLM: run(2, answer(100, 100)) }),
    // A slow moment of the machine: all three are slower.
    turn({ ours: run(10, answer(100, 100)), vLLM: run(30, answer(100, 1000)) }),
    turn({ ours: run(1, answer(100, 30)), vLLM: run(4, answer(100, 100)) }),
  ]
  const rows = summarise('bf16, 16 streams', 16, turns)
  expect(rows).toEqual([
    expect.objectContaining({
      case: 'bf16, 16 streams: output',
      value: 100,
      unit: 'tok/s',
      low: 10,
      high: 100,
    }),
    expect.objectContaining({ case: 'bf16, 16 streams: TTFT p50', value: 30, unit: 'ms', goal: null }),
    expect.objectContaining({ case: 'bf16, 16 streams: output of vLLM', value: 25 }),
    expect.objectContaining({ case: 'bf16, 16 streams: TTFT p50 of vLLM', value: 100 }),
    {
      ...{ case: "bf16, 16 streams: times vLLM's output", value: 3, low: 2, high: 4 },
      ...{ unit: 'x', better: 'higher', goal: 1.5 },
    },
    {
      ...{ case: "bf16, 16 streams: TTFT p50, share of vLLM's", value: 0.1, low: 0.1, high: 0.3 },
      ...{ unit: 'x', better: 'lower', goal: 0.2 },
    },
  ])
})

test('OpenVINO in process is compared by its output alone, and one stream has no goal', () => {
  const turns = [turn({ ours: run(1, answer(60, 5), answer(40, 5)), OpenVINO: run(2, answer(100, 1)) })]
  const ratios = (streams: number) =>
    summarise('int8', streams, turns).flatMap(({ case: name, value, unit, goal }) =>
      unit === 'x' ? [{ name, value, goal }] : [],
    )
  const name = "int8: times OpenVINO's output in process"
  expect(ratios(1)).toEqual([{ name, value: 2, goal: null }])
  expect(ratios(32)).toEqual([{ name, value: 2, goal: 1.3 }])
})

test('the time to the first token is the median over the answers', () => {
  const turns = [turn({ ours: run(1, answer(1, 900), answer(1, 20), answer(1, 30)) })]
  expect(summarise('x', 1, turns)[1]).toMatchObject({ value: 30, low: 30, high: 30 })
})

test('the share of answers with the same text', () => {
  const ours = run(1, answer(1, 1, 'a'), answer(1, 1, 'b'), answer(1, 1, 'c'), answer(1, 1, 'd'))
  const theirs = run(1, answer(1, 1, 'a'), answer(1, 1, 'B'), answer(1, 1, 'c'), answer(1, 1, 'd'))
  expect(agreement('bf16', ours, 'vLLM', theirs)).toMatchObject({ value: 0.75, unit: 'share', goal: null })
})

test('sides that did not do the same work are refused', () => {
  const asked = [{ prompt: 'Hello', tokens: 5 }]
  const runs = (theirs: Run) => turn({ ours: run(1, answer(5, 1)), vLLM: theirs })
  expect(() => checkSameWork(asked, runs(run(2, answer(5, 9))))).not.toThrow()
  expect(() => checkSameWork(asked, runs(run(2, answer(4, 9))))).toThrow(
    'vLLM: answer 0 has 4 tokens instead of 5',
  )
  expect(() => checkSameWork(asked, runs(run(2)))).toThrow('vLLM: answer 0 has undefined tokens')
  expect(() => checkSameWork(asked, runs(run(2, answer(5, 9, '', 11))))).toThrow(
    'prompt 0 has 11 tokens for vLLM, 10 for ours',
  )
})

test('requests have the same lengths in each repetition, and other prompts', () => {
  const [first, second] = [0, 1].map((repetition) => requestsOf(16, repetition, false))
  expect(first).toHaveLength(48)
  expect(second?.map(({ tokens }) => tokens)).toEqual(first?.map(({ tokens }) => tokens))
  const beginnings = [...(first ?? []), ...(second ?? [])].map(({ prompt }) => prompt.slice(0, 40))
  expect(new Set(beginnings).size).toBe(96)
  expect(requestsOf(16, 0, false)).toEqual(first)
})

const DRIVER = `
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { command, folder, streams, requests } = JSON.parse(line)
  if (command === 'load') return console.log(folder === 'gone' ? '{"error":"no such folder"}' : '{}')
  const answers = requests.map(({ prompt, tokens }) => ({
    prompt_tokens: prompt.length, output_tokens: tokens, ttft_ms: streams, text: prompt + ' there',
  }))
  console.log(JSON.stringify({ seconds: streams === 9 ? -1 : 0.5, answers }))
})`
const open = (folder: string) => openDriver(process.execPath, ['-e', DRIVER], { folder, threads: 2 })

test("OpenVINO's driver is asked in lines of JSON, whatever a prompt contains", async () => {
  const side = await open('model')
  expect(await side.run([{ prompt: 'Hel\n"lo"', tokens: 3 }], 4)).toEqual({
    seconds: 0.5,
    answers: [{ prompt_tokens: 8, output_tokens: 3, ttft_ms: 4, text: 'Hel\n"lo" there' }],
  })
  await expect(side.run([], 9)).rejects.toThrow('seconds')
  await side.close()
})

test("an error of OpenVINO's driver is told", async () => {
  await expect(open('gone')).rejects.toThrow('load: no such folder')
})

test('all sides have the same weights: a model that is an adapter is refused', () => {
  const about = { about: 'a test', license: 'Apache-2.0', bytes: 1 }
  const models: KnownModels = new Map([
    ['base', { ...about, source: { folder: 'models/demo' } }],
    ['tuned', { ...about, source: { base: 'base', adapter: 'models/smollm2-135m-apar' } }],
  ])
  expect(checkpointPath('base', models)).toMatch(/models.demo$/)
  expect(() => checkpointPath('tuned', models)).toThrow('tuned has an adapter')
})
