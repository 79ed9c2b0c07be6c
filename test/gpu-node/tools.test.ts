import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EVENT } from '../../gpu-node/engine/engine-events.ts'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { TOOL_FORMATS, type ToolFormatName } from '../../gpu-node/tools/tool-format.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { requires } from '../support/requires.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const ajv = new Ajv2020({ strict: false, allErrors: true })

const WEATHER = {
  name: 'get_weather',
  description: 'The weather of a city',
  parameters: {
    type: 'object',
    properties: {
      city: { type: 'string', minLength: 1, maxLength: 12 },
      unit: { enum: ['celsius', 'fahrenheit'] },
    },
    required: ['city', 'unit'],
    additionalProperties: false,
  },
}
const TIME = { name: 'get-time', parameters: { type: 'object', properties: {} } }
const tools = [WEATHER, TIME, { name: 'get' }]
const schemas: Record<string, object> = {
  get_weather: WEATHER.parameters,
  'get-time': { maxProperties: 0 },
  get: { maxProperties: 0 },
}

let streams = 0

interface Answer {
  content: string
  calls: { id: string; name: string; args: string }[]
  reason: string
  batches: NodeBatch[]
}

async function answer(
  runner: Runner,
  fields: object,
  log: readonly NodeBatch[] = [],
  stream = '',
): Promise<Answer> {
  const request = GenerateRequest.parse({
    model: runner.model,
    messages: [{ role: 'user', content: 'What is the weather?' }],
    ...{ max_tokens: 400, temperature: 1.5, tools },
    ...fields,
  })
  const batches: NodeBatch[] = []
  await new Promise<void>((resolve, reject) => {
    const publish = (batch: NodeBatch) => {
      batches.push(batch)
      if (batch.events.some(({ type }) => type === 'done' || type === 'error')) resolve()
    }
    runner.start(stream || `stream-${++streams}`, request, publish, { log }).catch(reject)
  })
  return { ...read([...log, ...batches].flatMap((batch) => batch.events)), batches }
}

function read(events: readonly StreamEvent[]): Omit<Answer, 'batches'> {
  const calls: Answer['calls'] = []
  let content = ''
  let reason = ''
  for (const event of events) {
    if (event.type === 'delta') content += event.text
    if (event.type === 'tool_call') calls.push({ id: event.call_id, name: event.name, args: '' })
    const call = event.type === 'tool_arguments' ? calls[event.call] : undefined
    if (call && event.type === 'tool_arguments') call.args += event.text
    if (event.type === 'done') reason = event.reason
    if (event.type === 'error') reason = JSON.stringify(event)
  }
  return { content, calls, reason }
}

describe.skipIf(!served).each(Object.keys(TOOL_FORMATS) as ToolFormatName[])(
  'tools in the format %s',
  (toolFormat) => {
    let runner: Runner
    beforeAll(async () => {
      runner = await openRunner(`${packageRoot}/models/demo`, { threads: 1, toolFormat })
    }, 60_000)
    afterAll(() => runner?.close())

    test('are called with good arguments where a call is required', async () => {
      const answers = await Promise.all(
        Array.from({ length: 8 }, (_, seed) => answer(runner, { tool_choice: 'required', seed })),
      )
      for (const { content, calls, reason } of answers) {
        expect(content).toBe('')
        expect(calls.length).toBeGreaterThan(0)
        const whole = reason === 'length' ? calls.slice(0, -1) : calls
        for (const { name, args } of whole) {
          expect(ajv.validate(schemas[name] ?? false, JSON.parse(args)), `${name} ${args}`).toBe(true)
        }
      }
      expect(new Set(answers.flatMap(({ calls }) => calls.map(({ name }) => name))).size).toBeGreaterThan(1)
    })

    test('of which one is named are that one, once', async () => {
      for (const [name, seed] of [...Array(8).keys()].flatMap((seed) =>
        ['get', 'get_weather'].map((name) => [name, seed] as const),
      )) {
        const { content, calls, reason } = await answer(runner, { tool_choice: { name }, seed })
        expect([content, reason]).toEqual(['', 'stop'])
        expect(calls).toEqual([
          { id: expect.stringMatching(/^[0-9a-f]{24}$/), name, args: expect.any(String) },
        ])
        expect(ajv.validate(schemas[name] ?? false, JSON.parse(calls[0]?.args ?? ''))).toBe(true)
      }
    })

    test('need not be called', async () => {
      const { content, calls } = await answer(runner, { temperature: 0, max_tokens: 20 })
      expect(content.length).toBeGreaterThan(10)
      expect(calls).toEqual([])
    })

    test('are called after any of the events of another node', async () => {
      const fields = { tool_choice: { name: 'get_weather' }, parallel_tool_calls: false, seed: 7 }
      const whole = await answer(runner, fields, [], 'moved')
      for (let kept = 1; kept < whole.batches.length; kept += 2) {
        const { batches: _, ...moved } = await answer(runner, fields, whole.batches.slice(0, kept), 'moved')
        expect(moved).toEqual({ content: '', calls: whole.calls, reason: 'stop' })
      }
    })

    test('are called in the middle of a text, as soon as it begins a call', async () => {
      const { open, begin, trigger } = TOOL_FORMATS[toolFormat]
      const begun = trigger ?? `${open}${begin}get_weather"`
      for (const prefix of [begun.slice(0, 4), begun]) {
        const log = await logOf(`Look: ${prefix}`, 'Look:')
        const { content, calls, reason } = await answer(runner, { max_tokens: 300, seed: 2 }, log)
        if (prefix !== begun && calls.length === 0) {
          // A beginning may turn out to be text.
          expect(content.startsWith(`Look: ${prefix}`)).toBe(true)
          continue
        }
        expect(content).toBe('Look:')
        expect(['stop', 'length']).toContain(reason)
        const [first] = calls
        if (reason === 'stop')
          expect(ajv.validate(schemas[first?.name ?? ''] ?? false, JSON.parse(first?.args ?? ''))).toBe(true)
      }
    })

    test('are not called as no tool can be', async () => {
      const { open, begin, trigger } = TOOL_FORMATS[toolFormat]
      const log = await logOf(`Look: ${trigger ?? `${open}${begin}get_weather"`}?`, 'Look:')
      const { calls, reason } = await answer(runner, { max_tokens: 300, seed: 2 }, log)
      expect(calls).toEqual([])
      expect(JSON.parse(reason)).toMatchObject({ type: 'error', code: 'engine_error' })
    })

    /** Of an answer that has begun with a text, of which the client has seen a part: a model that is made to say it. */
    async function logOf(text: string, shown: string): Promise<NodeBatch[]> {
      const [accepted] = (await answer(runner, { max_tokens: 1 })).batches
      const query = { ask: 'tokenize', model: runner.model, raw_prompt: true, list: 'ids' } as const
      const how = { add_special_tokens: false, parse_special: false }
      const asked = await runner.answer({ ...query, ...how, messages: [{ role: 'user', content: text }] }, {})
      if (asked.type !== 'tokens' || !accepted) throw new Error('no tokens')
      const rows = (asked.tokens ?? []).flatMap((id) => [EVENT.TOKEN, 0, id, 0])
      return [accepted, { rows, events: [{ type: 'delta', seq: 1, branch: 0, text: shown }] }]
    }
  },
)

describe.skipIf(!served)('beside tools', () => {
  let runner: Runner
  beforeAll(async () => {
    runner = await openRunner(`${packageRoot}/models/demo`, { threads: 1, toolFormat: 'hermes' })
  }, 60_000)
  afterAll(() => runner?.close())

  test('a format holds for an answer without calls', async () => {
    const schema = { type: 'object', properties: { a: { type: 'string', maxLength: 4 } }, required: ['a'] }
    const output_format = { type: 'json_schema', schema }
    for (const seed of [1, 2, 3]) {
      const { content, calls } = await answer(runner, { output_format, seed })
      expect(calls.length > 0 || ajv.validate(schema, JSON.parse(content))).toBe(true)
    }
    const { calls } = await answer(runner, { output_format, tool_choice: { name: 'get' } })
    expect(calls[0]).toMatchObject({ name: 'get', args: '{}' })
  })

  test('stop strings end text, and no arguments', async () => {
    const plain = await answer(runner, { temperature: 0, max_tokens: 30 })
    const stop = plain.content.slice(12, 15)
    const stopped = await answer(runner, {
      temperature: 0,
      max_tokens: 30,
      stop: [stop],
      stop_scope: 'document',
    })
    expect(stopped.reason).toBe('stop')
    expect(stopped.batches.at(-1)?.events.at(-1)).toMatchObject({ text_length: plain.content.indexOf(stop) })
    const fields = { tool_choice: { name: 'get_weather' }, parallel_tool_calls: false, seed: 4 }
    const called = await answer(runner, { ...fields, stop: ['"', 'city'] })
    expect(called.calls).toMatchObject([
      { name: 'get_weather', args: expect.stringMatching(/^\{"city": .*\}$/) },
    ])
  })

  test('log-probabilities are those of the text', async () => {
    const { batches, content } = await answer(runner, { temperature: 0, max_tokens: 20, logprobs: 1 })
    const rows = batches.flatMap(({ events }) =>
      events.flatMap((event) => (event.type === 'delta' ? (event.logprobs ?? []) : [])),
    )
    expect(rows.map(({ token }) => token).join('')).toBe(content)
    const { batches: called } = await answer(runner, {
      tool_choice: { name: 'get' },
      logprobs: 1,
      parallel_tool_calls: false,
    })
    expect(JSON.stringify(called)).not.toContain('logprob')
  })

  test('a tool is refused only if it is strict', async () => {
    const parameters = {
      type: 'object',
      properties: { a: { type: 'string', pattern: '[^a]{0,3000}([^b]{0,3000}c){0,300}' } },
      required: ['a'],
    }
    const fields = { tool_choice: 'required', parallel_tool_calls: false, max_tokens: 80 }
    const { calls } = await answer(runner, { ...fields, tools: [{ name: 'f', parameters }] })
    expect(calls).toMatchObject([{ name: 'f', args: expect.stringMatching(/^\{/) }])
    const strict = answer(runner, { ...fields, tools: [{ name: 'f', parameters, strict: true }] })
    await expect(strict).rejects.toMatchObject({ code: 'invalid_request', param: 'tools' })
  }, 60_000)
})
