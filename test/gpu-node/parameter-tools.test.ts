import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EVENT } from '../../gpu-node/engine/engine-events.ts'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { requires } from '../support/requires.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const ajv = new Ajv2020({ strict: false })

const NOTE = {
  type: 'object',
  $defs: { place: { type: 'object', properties: { page: { type: 'integer' } }, required: ['page'] } },
  properties: {
    title: { type: 'string', maxLength: 8 },
    kind: { enum: ['a', 'b\nc'] },
    urgent: { type: 'boolean' },
    at: { $ref: '#/$defs/place' },
    tags: { type: 'array', items: { type: 'string', maxLength: 4 }, maxItems: 2 },
  },
  required: ['title', 'kind', 'at'],
  additionalProperties: false,
}
const ANY = { type: 'object', patternProperties: { '[ab]{1,3}': { type: 'boolean' } } }
/** Random text has no end. */
const TEXT = {
  type: 'object',
  properties: {
    text: { type: 'string' },
    author: { anyOf: [{ type: 'string' }, { type: 'null' }] },
    kind: { enum: ['', 'a', 'b\nc'] },
    count: { type: 'integer', minimum: 1, maximum: 9 },
  },
  required: ['text', 'count'],
}
const tools = [
  { name: 'text', parameters: TEXT },
  { name: 'note', parameters: NOTE, strict: true },
  { name: 'any', parameters: ANY },
]

interface Answer {
  content: string
  args: string
  reason: string
  batches: NodeBatch[]
}

describe.skipIf(!served)('arguments that are written parameter by parameter', () => {
  let runner: Runner
  beforeAll(async () => {
    runner = await openRunner(`${packageRoot}/models/demo`, { threads: 1, toolFormat: 'qwen3-coder' })
  }, 60_000)
  afterAll(() => runner?.close())

  async function call(fields: object, log: readonly NodeBatch[] = []): Promise<Answer> {
    const request = GenerateRequest.parse({
      model: runner.model,
      messages: [{ role: 'user', content: 'Write a note.' }],
      ...{ max_tokens: 400, temperature: 1.5, tools, parallel_tool_calls: false },
      ...fields,
    })
    const batches: NodeBatch[] = []
    await new Promise<void>((resolve, reject) => {
      const publish = (batch: NodeBatch) => {
        batches.push(batch)
        if (batch.events.some(({ type }) => type === 'done' || type === 'error')) resolve()
      }
      runner.start(`stream-${JSON.stringify(fields)}`, request, publish, { log }).catch(reject)
    })
    const answer: Answer = { content: '', args: '', reason: '', batches }
    for (const event of batches.flatMap(({ events }) => events)) {
      if (event.type === 'delta') answer.content += event.text
      if (event.type === 'tool_arguments') answer.args += event.text
      if (event.type === 'done') answer.reason = event.reason
      if (event.type === 'error') answer.reason = event.code
    }
    return answer
  }

  /** Of an answer that has begun with this text. */
  async function logOf(text: string): Promise<NodeBatch[]> {
    const [accepted] = (await call({ max_tokens: 1 })).batches
    const query = { ask: 'tokenize', model: runner.model, raw_prompt: true, list: 'ids' } as const
    const how = { add_special_tokens: false, parse_special: false }
    const asked = await runner.answer({ ...query, ...how, messages: [{ role: 'user', content: text }] }, {})
    if (asked.type !== 'tokens' || !accepted) throw new Error('no tokens')
    return [accepted, { rows: (asked.tokens ?? []).flatMap((id) => [EVENT.TOKEN, 0, id, 0]), events: [] }]
  }

  test.each(['note', 'any'])('keep to the schema of %s', async (name) => {
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, seed) => call({ tool_choice: { name }, seed })),
    )
    const whole = answers.filter(({ reason }) => reason === 'stop').map(({ args }) => JSON.parse(args))
    expect(whole.length).toBeGreaterThan(12)
    for (const value of whole)
      expect(ajv.validate(name === 'note' ? NOTE : ANY, value), JSON.stringify(value)).toBe(true)
    if (name === 'note') {
      expect(new Set(whole.map(({ kind }) => kind)).size).toBe(2)
    }
  })

  const begun = '<tool_call>\n<function=text>\n<parameter=text>\n'
  const next = '\n</parameter>\n<parameter='

  test.each([
    '',
    'if a < b:\n  say("</p>\\n")\n',
    `x${next}author>\nnull`,
    `x${next}author>\ny${next}kind>\nb\nc`,
    `x</parameter>\n<parameter=kind>\na`,
    `x${next}kind>\n`,
  ])('may have any text: %j', async (said) => {
    const { content, args, reason } = await call({ seed: 3 }, await logOf(`${begun}${said}${next}count>\n`))
    expect([content, reason]).toEqual(['', 'stop'])
    // The client has what the log says.
    expect(args).toMatch(/^[1-9]\}$/)
  })

  test.each([
    ['a choice that there is not', `x${next}kind>\nd`],
    ['a number that is none', `x${next}count>\nmany`],
    ['a parameter that there is not', `x${next}title>\n`],
    ['a parameter out of order', `x${next}kind>\na${next}author>\n`],
    ['no required one', `x\n</parameter>\n</function>`],
  ])('have not %s', async (_, said) => {
    const { reason } = await call({ seed: 3 }, await logOf(begun + said))
    expect(reason).toBe('engine_error')
  })
})
