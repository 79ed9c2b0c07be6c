import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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
      for (const name of ['get', 'get_weather']) {
        const fields = { tool_choice: { name }, parallel_tool_calls: false, seed: 4 }
        const { content, calls, reason } = await answer(runner, fields)
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
  },
)
