import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TOOL_FORMATS, type ToolFormat } from '../../gpu-node/tools/tool-format.ts'
import { type AnswerPart, ToolParser } from '../../gpu-node/tools/tool-parser.ts'

const names = ['get', 'get_weather', 'get-time']

interface Read {
  content: string
  calls: { name: string; args: string }[]
}

function read(parts: readonly AnswerPart[]): Read {
  const calls: Read['calls'] = []
  let content = ''
  for (const part of parts) {
    if ('content' in part) content += part.content
    else if ('name' in part) calls[part.call] = { name: part.name, args: '' }
    else (calls[part.call] ?? { args: '' }).args += part.text
  }
  return { content, calls }
}

function written({ content, calls }: Read, format: ToolFormat): string {
  const { open, begin, middle, end, between, close } = format
  const texts = calls.map(({ name, args }) => begin + name + middle + args + end)
  return content + (texts.length > 0 ? open + texts.join(between) + close : '')
}

function parse(pieces: readonly string[], format: ToolFormat, required = false): Read {
  const parser = new ToolParser({ format, names, required })
  return read([...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()])
}

const args = fc
  .dictionary(fc.string({ maxLength: 4 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 })
  .map((value) => JSON.stringify(value))
const calls = fc.array(fc.record({ name: fc.constantFrom(...names), args }), { maxLength: 3 })
/** Texts that look like calls. */
const content = fc
  .array(
    fc.oneof(
      fc.string({ maxLength: 5 }),
      fc.constantFrom('<tool', '<', '[TOOL_', '{"name": "', '{"', '\n', '[ARGS', '{"tool_call": {'),
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join('').trimEnd())

function splits(text: string, cuts: readonly number[]): string[] {
  const places = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b)
  return [...places, text.length].map((end, index) => text.slice(index === 0 ? 0 : places[index - 1], end))
}

/** Has none of what only calls have. */
function isText(text: string, format: ToolFormat): boolean {
  return (
    names.every((name) => !text.includes(`${format.open}${format.begin}${name}"`)) &&
    !text.includes(format.trigger ?? '\0')
  )
}

describe.each(Object.entries(TOOL_FORMATS))('calls in the format %s', (_, format) => {
  test('are read from any pieces', () => {
    fc.assert(
      fc.property(content, calls, fc.array(fc.nat(), { maxLength: 12 }), (text, called, cuts) => {
        fc.pre(isText(text, format))
        const answer = { content: text, calls: called }
        expect(parse(splits(written(answer, format), cuts), format)).toEqual(answer)
      }),
      { numRuns: 500 },
    )
  })

  test('are read from each split of two', () => {
    const answer = {
      content: 'Let me look.\n<tool {"name',
      calls: [
        { name: 'get_weather', args: '{"a": "}\\"{[", "b": [{}, "é\\\\"]}' },
        { name: 'get', args: '{}' },
      ],
    }
    const text = written({ ...answer, content: `${answer.content}\n\n` }, format)
    for (let cut = 0; cut <= text.length; cut++)
      expect(parse([text.slice(0, cut), text.slice(cut)], format)).toEqual(answer)
    expect(parse([...text], format)).toEqual(answer)
  })

  test('leave no marker in the text where they are cut off', () => {
    const answer = {
      content: 'Look: ',
      calls: [
        { name: 'get_weather', args: '{"a": 1}' },
        { name: 'get', args: '{}' },
      ],
    }
    const text = written(answer, format)
    const trigger = format.trigger ?? `${format.begin}get_weather"`
    const complete = text.indexOf(trigger) + trigger.length
    for (let end = 0; end <= text.length; end++) {
      const { content, calls } = parse([...text.slice(0, end)], format)
      if (end >= complete) expect(content).toBe('Look:')
      for (const [index, call] of calls.entries()) {
        expect(answer.calls[index]?.name).toBe(call.name)
        expect(answer.calls[index]?.args.startsWith(call.args)).toBe(true)
      }
    }
    const required = written({ ...answer, content: '' }, format)
    for (let end = 0; end <= required.length; end++)
      expect(parse([...required.slice(0, end)], format, true).content).toBe('')
  })

  test('have control characters as JSON writes them', () => {
    const text = written({ content: '', calls: [{ name: 'get', args: '{"a":\t"x\ty"}' }] }, format)
    expect(JSON.parse(parse([...text], format).calls[0]?.args ?? '')).toEqual({ a: 'x\ty' })
  })

  test('are none in an answer with a format, unless it begins with one', () => {
    const call = written({ content: '', calls: [{ name: 'get', args: '{}' }] }, format)
    for (const [text, expected] of [
      [`"${call}"`, { content: `"${call}"`, calls: [] }],
      [call, { content: '', calls: [{ name: 'get', args: '{}' }] }],
    ] as const) {
      const parser = new ToolParser({ format, names, required: false, instead: 'json' })
      const { content, calls } = read([...[...text].flatMap((char) => parser.push(char)), ...parser.flush()])
      expect({ content: content.replaceAll('\\n', '\n'), calls }).toEqual(expected)
    }
  })
})

test('white space at the end of a text stays', () => {
  const { hermes } = TOOL_FORMATS
  expect(parse(['a ', '\n'], hermes)).toEqual({ content: 'a \n', calls: [] })
  expect(parse(['a', ' \n', '<tool'], hermes)).toEqual({ content: 'a \n<tool', calls: [] })
})
