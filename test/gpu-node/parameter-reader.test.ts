import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Parameter, parametersOf } from '../../gpu-node/tools/parameters.ts'
import { servedSchema } from '../../gpu-node/tools/served-schema.ts'
import { TOOL_FORMATS } from '../../gpu-node/tools/tool-format.ts'
import { type AnswerPart, ToolParser } from '../../gpu-node/tools/tool-parser.ts'

const format = TOOL_FORMATS['qwen3-coder']
const WRITTEN = { begin: '<parameter=', middle: '>\n', end: '</parameter>\n' }

const SCHEMA = {
  type: 'object',
  $defs: { point: { type: 'object', properties: { x: { type: 'integer' } } } },
  properties: {
    text: { type: 'string', description: 'any' },
    maybe: { anyOf: [{ type: 'string' }, { type: 'null' }], default: null },
    also: { type: ['string', 'null'] },
    unit: { type: 'string', enum: ['a', 'b\nc'] },
    one: { const: 'only' },
    short: { type: 'string', maxLength: 3 },
    count: { type: 'integer' },
    at: { $ref: '#/$defs/point' },
    any: {},
  },
  required: ['text', 'count'],
}
const parameters = parametersOf(servedSchema(SCHEMA), WRITTEN) ?? []

type Values = Record<string, unknown>

/** As the template of such a model writes a call. */
function written(name: string, values: Values, list: readonly Parameter[] = parameters): string {
  const lines = Object.entries(values).map(([key, value]) => {
    const isText = list.find((each) => each.name === key)?.as !== 'json'
    const text = isText && typeof value === 'string' ? value : JSON.stringify(value)
    return `<parameter=${key}>\n${text}\n</parameter>\n`
  })
  return `<tool_call>\n<function=${name}>\n${lines.join('')}</function>\n</tool_call>`
}

function read(pieces: readonly string[]) {
  const parser = new ToolParser({
    ...{ format, names: ['f', 'free'], required: false },
    parameters: new Map([['f', parameters]]),
  })
  const parts: AnswerPart[] = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()]
  let content = ''
  const calls: { name: string; args: string }[] = []
  for (const part of parts) {
    if ('content' in part) content += part.content
    else if ('name' in part) calls.push({ name: part.name, args: '' })
    else (calls[part.call] ?? { args: '' }).args += part.text
  }
  return { content, calls }
}

const text = fc
  .array(
    fc.oneof(
      fc.string({ maxLength: 6, unit: 'binary' }),
      fc.constantFrom(
        '\n',
        '</',
        '</param',
        '<parameter=text>\n',
        '</function>\n',
        '"',
        '\\',
        '{',
        'null',
        ' ',
      ),
    ),
    { maxLength: 5 },
  )
  .map((parts) => parts.join(''))
  .filter((value) => !value.includes('</parameter>'))
const values = fc
  .record(
    {
      text,
      maybe: fc.oneof(text, fc.constant(null)),
      also: fc.oneof(text, fc.constant(null)),
      unit: fc.constantFrom('a', 'b\nc'),
      one: fc.constant('only'),
      short: fc.constantFrom('', 'é"', '\\'),
      count: fc.integer(),
      at: fc.record({ x: fc.integer() }),
      any: fc.jsonValue({ maxDepth: 2 }),
    },
    { requiredKeys: ['text', 'count'] },
  )
  // Of a text that may be null, `null` is.
  .map((all) => ({
    ...all,
    ...(all.maybe === 'null' && { maybe: null }),
    ...(all.also === 'null' && { also: null }),
  }))

/** JSON.parse gives -0 for what was written as such. */
const plain = (value: unknown) => JSON.parse(JSON.stringify(value))

describe('calls whose arguments are written parameter by parameter', () => {
  test('are read from any pieces', () => {
    fc.assert(
      fc.property(
        fc.array(values, { minLength: 1, maxLength: 3 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (all, cuts) => {
          const answer = `Look: \n${all.map((each) => written('f', each)).join('\n')}`
          const places = [...new Set(cuts.map((cut) => cut % (answer.length + 1)))].sort((a, b) => a - b)
          const pieces = [...places, answer.length].map((end, index) =>
            answer.slice(index === 0 ? 0 : places[index - 1], end),
          )
          const { content, calls } = read(pieces)
          expect(content).toBe('Look:')
          expect(calls.map(({ args }) => JSON.parse(args))).toEqual(all.map(plain))
        },
      ),
      { numRuns: 1000 },
    )
  })

  test('are read from each split of two, and cut off anywhere leave the beginning of their JSON', () => {
    const all = {
      text: 'a\n<b>\n</p>',
      maybe: null,
      also: 'nullable',
      count: -3,
      at: { x: 1 },
      any: ['</parameter>\n', {}],
    }
    const answer = `${written('f', all)}\n${written('f', { text: '', count: 0 })}`
    const whole = read([answer])
    expect(whole.calls.map(({ args }) => JSON.parse(args))).toEqual([all, { text: '', count: 0 }])
    for (let cut = 0; cut <= answer.length; cut++) {
      expect(read([answer.slice(0, cut), answer.slice(cut)])).toEqual(whole)
      const { content, calls } = read([...answer.slice(0, cut)])
      if (cut >= '<tool_call>'.length) expect(content).toBe('')
      for (const [index, { args }] of calls.entries())
        expect(whole.calls[index]?.args.startsWith(args)).toBe(true)
    }
  })

  test('may lack the line feed behind a text, and the parameters', () => {
    const call =
      '<tool_call>\n<function=f>\n<parameter=text>\nx\n\n</parameter>\n<parameter=maybe>\ny</parameter>\n'
    const end = '</function>\n</tool_call>'
    expect(read([...call, end]).calls).toEqual([{ name: 'f', args: '{"text": "x\\n", "maybe": "y"}' }])
    expect(read([`<tool_call>\n<function=f>\n${end}`]).calls).toEqual([{ name: 'f', args: '{}' }])
  })

  test('are a JSON object where nothing says which parameters there are', () => {
    const call = '<tool_call>\n<function=free>\n{"a": "</function>"}\n</function>\n</tool_call>'
    const { calls } = read([...`${call}\n${written('f', { text: 'x', count: 1 })}`])
    expect(calls.map(({ args }) => JSON.parse(args))).toEqual([{ a: '</function>' }, { text: 'x', count: 1 }])
  })
})

describe('parameters', () => {
  test('are written as text where nothing else is said of it, or as one of some texts', () => {
    expect(parameters.map(({ name, as, isRequired }) => [name, as, isRequired])).toEqual([
      ['text', 'text', true],
      ['maybe', 'text or null', false],
      ['also', 'text or null', false],
      ['unit', ['a', 'b\nc'], false],
      ['one', ['only'], false],
      ['short', 'json', false],
      ['count', 'json', true],
      ['at', 'json', false],
      ['any', 'json', false],
    ])
    expect(parameters.find(({ name }) => name === 'at')?.schema).toEqual({
      $ref: '#/$defs/point',
      $defs: SCHEMA.$defs,
    })
    expect(
      parametersOf({ type: 'object', properties: { a: { enum: ['x</parameter>'] } } }, WRITTEN),
    ).toMatchObject([{ as: 'json' }])
  })

  test.each([
    [{ type: 'object' }],
    [{ type: 'object', patternProperties: { a: {} } }],
    [{ type: 'object', properties: { a: {} }, minProperties: 1 }],
    [{ type: 'object', properties: { a: { $ref: '#/properties/b' }, b: {} } }],
    [
      {
        ...{ type: 'object', properties: { a: { $ref: '#/$defs/b' } } },
        $defs: { b: { items: { $ref: '#/properties/a' } } },
      },
    ],
    [{ type: 'object', properties: { 'a>\n': {} } }],
    [{ type: 'object', properties: {}, required: ['a'] }],
  ])('are not a list in %j', (schema) => {
    expect(parametersOf(schema, WRITTEN)).toBeUndefined()
  })
})
