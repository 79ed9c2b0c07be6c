import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { withBoundedNumbers } from '../../gpu-node/grammar/number-rules.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { requires } from '../support/requires.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)

/** Of numbers without bounds. */
function numberPattern(): RegExp {
  const [, quoted = ''] = /^basic_number ::= Regex\((.*)\)$/m.exec(withBoundedNumbers('')) ?? []
  return new RegExp(`^(?:${JSON.parse(quoted)})$`)
}

/** As programs write a double, in the fewest digits. */
function textsOf(double: number): string[] {
  const scientific = double.toExponential()
  const [digits = '', exponent = ''] = scientific.split('e')
  // Python has at least two digits of an exponent, and one behind a point.
  const padded = exponent.replace(/^([+-])(\d)$/, '$10$2')
  const plain = JSON.stringify(double)
  return [
    plain,
    scientific,
    ...[`${digits}e${padded}`, `${digits}E${exponent.replace('+', '')}`],
    ...(Number.isInteger(double) && Math.abs(double) < 1e16 ? [`${plain}.0`] : []),
  ]
}

describe('the rule of any number', () => {
  const pattern = numberPattern()

  test('has the texts of all doubles', () => {
    const edges = [
      0,
      -0,
      5e-324,
      1e-6,
      1e-7,
      1.2345678901234567e-6,
      0.1 + 0.2,
      1e15,
      2 ** 53,
      2 ** 70 + 2 ** 20,
    ]
    const largest = [1e21, 1e307, 9.9e307, 1e308, 1.5e308, 1.79e308, 1.797693134862315e308]
    const doubles = fc.double({ noNaN: true, noDefaultInfinity: true })
    const common = fc.tuple(fc.double({ min: -10, max: 10, noNaN: true }), fc.integer({ min: -25, max: 25 }))
    const ends = fc.double({ min: 1e307, max: Number.MAX_VALUE, noNaN: true })
    for (const double of [
      ...[...edges, ...largest, Number.MAX_VALUE].flatMap((each) => [each, -each]),
      ...fc.sample(doubles, { numRuns: 20_000, seed: 1 }),
      ...fc.sample(common, { numRuns: 20_000, seed: 2 }).map(([digits, power]) => digits * 10 ** power),
      ...fc.sample(ends, { numRuns: 5000, seed: 3 }),
    ])
      for (const text of textsOf(double)) expect(text).toMatch(pattern)
  })

  test('has no text that is infinite, or no JSON', () => {
    const texts = fc.sample(fc.stringMatching(pattern), { numRuns: 20_000, seed: 4 })
    for (const text of [
      ...texts,
      `${'9'.repeat(21)}.9e99`,
      '9.9999999999999999e307',
      '1.7976931348623157E308',
    ])
      expect(JSON.parse(text), text).toSatisfy(Number.isFinite)
    for (const text of [
      '2e308',
      '1.7976931348623158e308',
      '1.8e308',
      '10e308',
      '1e309',
      '9e999',
      '01',
      '1.',
      '.1',
    ])
      expect(text).not.toMatch(pattern)
  })
})

describe('the rules of a schema', () => {
  test('have an end of numbers with one bound, and texts as they are', () => {
    const rules = [
      'root ::= (("\\"[1-9] x{1, -1}\\"" root_1) | ([1-9] root_2{2, -1}) | ([1-9] root_2{24, -1}))',
      'root_1 ::= Regex("^[1-9] x{1, -1}$", json_string=true)',
      'basic_array ::= (("[" basic_any basic_array_items{0, -1} "]"))',
    ]
    const numbers = ['basic_number ::= ((basic_number_1 [0-9]*))', 'basic_number_1 ::= ("" | ("-"))']
    const written = withBoundedNumbers([...rules, ...numbers].join('\n'))
      .trimEnd()
      .split('\n')
    expect(written.slice(0, -1)).toEqual([
      rules[0]?.replace('root_2{2, -1}', 'root_2{2, 20}').replace('root_2{24, -1}', 'root_2{24, 24}'),
      ...rules.slice(1),
    ])
    expect(written.at(-1)).toMatch(/^basic_number ::= Regex/)
  })
})

function object(properties: object) {
  return { type: 'object', properties, required: Object.keys(properties), additionalProperties: false }
}

const NUMBER = { type: 'number' }
const PAIR = object({ a: NUMBER, b: object({ c: { type: ['number', 'null'] } }) })
const ofSchema = (schema: object) => ({ output_format: { type: 'json_schema', schema } })
const tools = [{ name: 'f', parameters: PAIR }]
const CASES: Record<string, object> = {
  'a number': ofSchema(NUMBER),
  'a number or null': ofSchema({ type: ['number', 'null'] }),
  'members of an object': ofSchema(PAIR),
  'any item': ofSchema({ type: 'array', minItems: 1, maxItems: 1 }),
  'a number with a least': ofSchema({ type: 'number', minimum: 0 }),
  'a number with a greatest': ofSchema({ type: 'number', exclusiveMaximum: -12.5 }),
  'an integer': ofSchema({ type: 'integer', minimum: 1 }),
  'members in parallel': { ...ofSchema(PAIR), parallel_format: true },
  'arguments of a tool': { tools, tool_choice: { name: 'f' } },
}

describe.skipIf(!served)('a model that would write digits without end', () => {
  let runner: Runner
  beforeAll(async () => {
    runner = await openRunner(`${packageRoot}/models/demo`, { threads: 1 })
  }, 60_000)
  afterAll(() => runner?.close())

  test.each(Object.entries(CASES))('comes to the end of %s', { timeout: 60_000 }, async (name, fields) => {
    const vocabulary = JSON.parse(readFileSync(`${packageRoot}/models/demo/tokenizer.json`, 'utf8')).model
      .vocab
    const request = GenerateRequest.parse({
      ...{ model: runner.model, messages: [{ role: 'user', content: 'A third?' }], max_tokens: 300 },
      ...{ logit_bias: { [vocabulary['3']]: 100 }, ...fields },
    })
    const events: StreamEvent[] = []
    await new Promise<void>((resolve, reject) => {
      const publish = (batch: { readonly events: readonly StreamEvent[] }) => {
        events.push(...batch.events)
        if (batch.events.some(({ type }) => type === 'done' || type === 'error')) resolve()
      }
      runner.start(name, request, publish, { log: [] }).catch(reject)
    })
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: expect.not.stringMatching('length') })
    const texts = events.map((event) => {
      return event.type === 'delta' || event.type === 'tool_arguments' ? event.text : ''
    })
    expect(texts.join('')).toMatch(/3{15}/)
  })
})
