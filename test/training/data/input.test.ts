import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fileBytes } from '../../../training/data/input/bytes.ts'
import { toConversation, withoutEmptyTurns } from '../../../training/data/input/conversations.ts'
import { readJsonValues } from '../../../training/data/input/json-values.ts'
import { splitRecords } from '../../../training/data/input/records.ts'

const folder = await mkdtemp(join(tmpdir(), 'apar-input-'))
let files = 0
async function file(content: string | Uint8Array, name = 'x.json'): Promise<string> {
  const path = join(folder, `${files++}-${name}`)
  await writeFile(path, content)
  return path
}

async function values(path: string): Promise<{ value: unknown; line: number }[]> {
  const found = []
  for await (const { value, line } of readJsonValues(path, { name: 'in' })) found.push({ value, line })
  return found
}

async function text(path: string): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of fileBytes(path, 'in', () => {})) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

describe('records', () => {
  it('are lines, blank ones left out', async () => {
    const path = await file('\n{"a":1}\r\n\n  {"b":[1,2]}')
    expect(await values(path)).toEqual([
      { value: { a: 1 }, line: 2 },
      { value: { b: [1, 2] }, line: 4 },
    ])
  })

  it('are the elements of an array', async () => {
    const path = await file('\n[\n {"a":"]}\\"{[,"},\n{\n"b": [{}]}\n, {} ]\n')
    expect(await values(path)).toEqual([
      { value: { a: ']}"{[,' }, line: 3 },
      { value: { b: [{}] }, line: 4 },
      { value: {}, line: 6 },
    ])
    expect(await values(await file('[]'))).toEqual([])
  })

  it('do not depend on where the chunks of a file end', async () => {
    const anything = fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 5 })
    const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(
        anything,
        sizes,
        fc.boolean(),
        fc.integer({ min: 0, max: 2 }),
        async (elements, cuts, isArray, space) => {
          const whole = Buffer.from(
            isArray
              ? JSON.stringify(elements, null, space)
              : elements.map((each) => JSON.stringify(each)).join('\n'),
          )
          async function* chunks() {
            for (let at = 0, cut = 0; at < whole.length; cut++) {
              const size = cuts[cut % cuts.length] ?? 1
              yield whole.subarray(at, at + size)
              at += size
            }
          }
          const found: unknown[] = []
          for await (const { bytes } of splitRecords(chunks(), 'in')) found.push(JSON.parse(bytes.toString()))
          expect(found).toEqual(elements.map((each) => JSON.parse(JSON.stringify(each))))
        },
      ),
    )
  })

  it.each([
    ['a line that is cut', '{"a":1}\n{"b"', 'in:2: not valid JSON'],
    ['an array that is cut', '[{"a":1},\n{"b":', 'in:2: the file ends inside its JSON array'],
    ['an array without its end', '[{"a":1}\n', 'in:2: the file ends inside its JSON array'],
    ['an element that is not JSON', '[{"a":1},\n{oops}]', 'in:2: not valid JSON'],
    ['a missing comma', '[{"a":1}\n{}]', 'in:2: not valid JSON: expected an array of objects'],
    ['a comma too many', '[{"a":1},]', 'in:1: not valid JSON: expected an array of objects'],
    ['numbers', '[1]', 'in:1: not valid JSON: expected an array of objects'],
    ['text behind the array', '[{}]\n[{}]', 'in:2: more text behind the JSON array'],
  ])('%s is an error with file and line', async (_, content, message) => {
    await expect(values(await file(content))).rejects.toMatchObject({ code: 'invalid_request', message })
  })
})

describe('files', () => {
  it('are read without a byte order mark, which is told', async () => {
    let marks = 0
    const found = []
    for await (const { value } of readJsonValues(await file('\ufeff{"a":1}'), { onBom: () => (marks += 1) }))
      found.push(value)
    expect([found, marks]).toEqual([[{ a: 1 }], 1])
    const utf16 = await file(Buffer.from('\ufeff{"a":1}', 'utf16le'))
    await expect(values(utf16)).rejects.toThrow('in: begins with the byte order mark of UTF-16')
  })

  it('are decompressed whatever their names are', async () => {
    expect(await text(await file(gzipSync('some text'), 'data.jsonl'))).toBe('some text')
    await expect(text(await file(gzipSync('some text').subarray(0, 20)))).rejects.toThrow(
      'in: cannot be read',
    )
    await expect(text('/nowhere/x.jsonl')).rejects.toThrow('in: cannot be read')
  })

  it('are named one by one', async () => {
    await expect(text(folder)).rejects.toMatchObject({
      code: 'invalid_request',
      message: 'in is a folder: name the files in it',
    })
  })
})

/** `text` in raw blocks, then 3 MiB of x in blocks that repeat one byte. */
function zstdFrame(plain: string, window = 0x58): Buffer {
  const block = (kind: number, size: number, last: boolean) => {
    const header = Buffer.alloc(3)
    header.writeUIntLE((size << 3) | (kind << 1) | Number(last), 0, 3)
    return header
  }
  const repeated = Array.from({ length: 24 }, (_, index) => [
    block(1, 128 << 10, index === 23),
    Buffer.from('x'),
  ])
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, window]),
    ...[block(0, plain.length, false), Buffer.from(plain)],
    ...repeated.flat(),
  ])
}

describe('zstd', () => {
  // Two frames of zstd 1.5: one at level 19 with a checksum, one without.
  const frames = [
    'KLUv/QRodQUAkogaGICrDoD7uOPaGRJFAO1CSCpL2BFI2lRWMHHK1WD57enPWn+l1Dv97+t/p7oVr/fWYs6xc2vczNxcY8yxW+utp1S/fyBaIemEzqIUq8PCRYlygXM1WCKpEhFmgY3ByCROuRpselaHPZCFAiyoEZDW7r/lgKPC0gERMAQzBJ8SPtcHsJSV3ktJTOJJIrqDcwOQ/D4ijRSjHw75xA0M8cgNDFNPEO2bCyhUA0QqhisfdQ==',
    'KLUv/QBYfQYAIkwiHHBJ0waYgPrMrKj5pkZAwrsW2d07E/LXkP3vmiIJMpTp7/3/H+s3//7/6zHfX7V6/eSdn9fhrp9q9UvTaVtFoy/3fMYzy9evZe+66uiPjwtt13aqN2baQURJyBQIC4FMQQQHSgBIkOE0jWIcLIcAmYKM5UCSxVDIFCjgyhzIAbEYBgNkCkIkBQFHqDFw1/t/B+B11hH8JE1IhEueB8qaIzwtlAbS0UWojRBQt/ANuAAvwE0WQkEoCAkhXdDaVorX/sM/8cmmp58NBrer',
  ].map((base64) => Buffer.from(base64, 'base64'))
  const expected = Array.from(
    { length: 40 },
    (_, i) => `{"id": "z${i}", "prompt": "Question ${i}?", "response": "Answer ${(i * 7919) % 1000}."}`,
  ).join('\n')

  it('is read frame by frame; those for other programs are skipped', async () => {
    const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3])
    const [first, second] = frames
    if (!first || !second) throw new Error('no frames')
    expect(await text(await file(Buffer.concat([first, skippable, second])))).toBe(expected)
    expect(await text(await file(zstdFrame('a text, and ')))).toBe(`a text, and ${'x'.repeat(3 << 20)}`)
  })

  it('gives each block alone, so that a small file does not fill the memory', async () => {
    let largest = 0
    for await (const chunk of fileBytes(await file(zstdFrame('')), 'in', () => {}))
      largest = Math.max(largest, chunk.length)
    expect(largest).toBe(128 << 10)
  })

  it.each([
    [
      'a file that ends in a frame',
      Buffer.concat(frames).subarray(0, 300),
      'in: zstd: the file ends inside a frame',
    ],
    ['a window that fills the memory', zstdFrame('', 0xa8), 'in: zstd: a window of 2147483648 bytes'],
    [
      'what is no frame',
      Buffer.concat([frames[1] ?? Buffer.alloc(0), Buffer.from('oops')]),
      'in: zstd: a frame does not begin',
    ],
  ])('refuses %s', async (_, bytes, message) => {
    await expect(text(await file(bytes))).rejects.toThrow(message)
  })
})

describe('conversations', () => {
  const fail = (reason: string): never => {
    throw new Error(reason)
  }
  const read = (value: unknown) => withoutEmptyTurns(toConversation(value, 'in:1', fail))
  const dialogs = [{ prompt: 'How?', response: 'So.' }]

  it.each([
    [
      'ShareGPT',
      {
        conversations: [
          { from: 'human', value: 'How?' },
          { from: 'gpt', value: 'So.' },
        ],
      },
    ],
    [
      'messages',
      {
        messages: [
          { role: 'user', content: 'How?' },
          { role: 'assistant', content: 'So.' },
        ],
      },
    ],
    [
      'parts of text',
      {
        messages: [
          { role: 'user', content: [{ type: 'text', text: 'How?' }] },
          { role: 'assistant', content: 'So.' },
        ],
      },
    ],
    ['dialogs', { dialogs }],
    ['prompt and response', { prompt: 'How?', response: 'So.' }],
    ['prompt and completion', { prompt: 'How?', completion: 'So.' }],
    ['instruction', { instruction: 'How?', input: '', output: 'So.' }],
  ])('are read from %s', (_, value) => {
    expect(read(value)).toEqual({ id: 'in:1', dialogs, faults: [] })
  })

  it('have an id of their own, a group and a system message', () => {
    expect(
      read({
        id: 7,
        group: 'g',
        messages: [
          { role: 'system', content: 'Be kind.' },
          { role: 'user', content: 'How?' },
          { role: 'assistant', content: 'So.' },
        ],
      }),
    ).toEqual({ id: '7', group: 'g', system: 'Be kind.', dialogs, faults: [] })
    expect(read({ instruction: 'Sum up', input: 'a text', output: 'So.' }).dialogs[0]?.prompt).toBe(
      'Sum up\n\na text',
    )
  })

  const [human, gpt] = [
    { from: 'human', value: 'How?' },
    { from: 'gpt', value: 'So.' },
  ]
  it.each(['length', 'repeats', 'content_filter'])('that end with %s are cut off', (finish_reason) => {
    const record = { prompt: 'Q', response: 'A', finish_reason }
    expect(read(record)).toMatchObject({ cutOff: true })
    expect(read({ ...record, finish_reason: 'stop' })).not.toHaveProperty('cutOff')
  })

  it.each([
    ['first_message', [gpt, human, gpt]],
    ['unanswered', [human, gpt, human]],
    ['role_order', [human, gpt, gpt, human, gpt]],
    ['role_order', [human, gpt, { from: 'tool', value: '{}' }, human, gpt]],
    ['empty_turn', [human, gpt, human, { from: 'gpt', value: ' ' }]],
  ])('with a fault keep what comes before it: %s', (fault, conversations) => {
    expect(read({ conversations })).toEqual({ id: 'in:1', dialogs, faults: [fault] })
  })

  it.each([
    ['a text', 'x', 'expected an object: {conversations'],
    ['no known field', { text: 'x' }, 'none of the known shapes'],
    ['an empty id', { id: '', dialogs }, '"id" must be a non-empty string'],
    ['a wrong turn', { dialogs: [{ prompt: 1 }] }, '"dialogs.0" must be {prompt, response}'],
    [
      'a wrong message',
      { messages: [{ role: 'user', content: 7 }] },
      '"messages.0": content must be a string',
    ],
    [
      'a picture',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      'only parts of text are read',
    ],
    [
      'a role that is no text',
      { conversations: [{ value: 'x' }] },
      '"conversations.0": from must be a string',
    ],
    ['a wrong group', { group: 1, dialogs }, '"group" must be a string'],
  ])('%s is refused', (_, value, message) => {
    expect(() => read(value)).toThrow(message)
  })
})
