import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { GRAMMAR_FOLDER } from '../../gpu-node/engine/engine-files.ts'
import type { EngineGrammar } from '../../gpu-node/engine/engine-request.ts'
import { CompilerProcess } from '../../gpu-node/grammar/compiler-process.ts'
import { engineSchema } from '../../gpu-node/grammar/engine-schema.ts'
import { grammarSource } from '../../gpu-node/grammar/grammar-source.ts'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { withoutOptionalGroups, withShortRepetitions } from '../../gpu-node/grammar/pattern.ts'
import { problemOf } from '../../shared/protocol/answer-schema.ts'
import { patternWithLengths } from '../../shared/protocol/pattern-lengths.ts'
import { requires } from '../support/requires.ts'

const served = requires(
  'the grammar engine (python3 with pip)',
  () => existsSync(GRAMMAR_FOLDER) && Grammars.available,
)

/** Tokens of one byte each, and EOS. */
const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte)
const offsets = Int32Array.from({ length: 258 }, (_, token) => Math.min(token, 256))
const VOCABULARY = { text: { bytes, offsets, markers: new Int32Array() }, eos: [256] }

/** Takes seconds, and on the fastest machine more memory than there is for it. */
const HOSTILE = grammarSource({
  type: 'regex',
  pattern: '[^a]{0,9000}[^b]{0,9000}[^c]{0,9000}[^d]{0,9000}',
})
const GOOD = grammarSource({ type: 'regex', pattern: 'ab' })

describe.skipIf(!served)('the compiler', () => {
  test('ends a process that takes too long, and goes on with another', { timeout: 60_000 }, async () => {
    const compiler = new CompilerProcess(GRAMMAR_FOLDER, VOCABULARY, 1000)
    try {
      const waiting = [HOSTILE, GOOD].map((source) => compiler.compile(source))
      await expect(waiting[0]).rejects.toMatchObject({ code: 'invalid_request', param: 'output_format' })
      expect((await waiting[1])?.length).toBeGreaterThan(10)
    } finally {
      compiler.close()
    }
    await expect(compiler.compile(GOOD)).rejects.toMatchObject({ code: 'overloaded' })
  })

  test('is asked once for a grammar, also for one that is refused', async () => {
    const loaded: Uint8Array[] = []
    const grammars = new Grammars(VOCABULARY, async (_, compiled) => {
      loaded.push(compiled)
      return {} as EngineGrammar
    })
    try {
      const one = { type: 'json_schema', schema: { const: 1 } } as const
      const [first, second] = [grammars.get(one), grammars.get({ ...one })]
      expect(await first).toBe(await second)
      expect(await grammars.get({ type: 'choice', choices: ['1'] })).not.toBe(await first)
      expect(loaded).toHaveLength(2)
      const wrong = { type: 'regex', pattern: '(' } as const
      const refused = await grammars.get(wrong).catch((error) => error)
      expect(await grammars.get(wrong).catch((error) => error)).toBe(refused)
    } finally {
      grammars.close()
    }
  })
})

describe('what the grammar engine gets', () => {
  test('is a schema in which everything is written', () => {
    const schema = {
      type: 'object',
      properties: {
        list: { type: 'array' },
        pair: { type: 'array', prefixItems: [{ type: 'integer', minimum: 1 }] },
        any: { type: 'object' },
        strange: { type: 'string', format: 'unheard-of' },
        format: { enum: [{ type: 'array' }] },
      },
    }
    expect(engineSchema(schema)).toEqual({
      type: 'object',
      properties: {
        list: { type: 'array', items: true },
        pair: {
          ...{ type: 'array', items: false },
          prefixItems: [{ type: 'integer', minimum: 1, maximum: Number.MAX_SAFE_INTEGER }],
        },
        any: { type: 'object', additionalProperties: true },
        strange: { type: 'string' },
        format: { enum: [{ type: 'array' }] },
      },
    })
  })

  test('has tuples of older drafts as newer ones write them, also in references', () => {
    const tuple = { type: 'array', items: [{ type: 'null' }, { type: 'boolean' }] }
    const schema = {
      type: 'object',
      properties: {
        closed: tuple,
        open: { ...tuple, additionalItems: { type: 'null' } },
        list: { type: 'array', items: { type: 'null' }, additionalItems: false },
        any: { type: 'array', items: [] },
        items: { $ref: '#/properties/closed/items/1' },
        rest: { $ref: '#/properties/open/additionalItems' },
        same: { $ref: '#/properties/list/items' },
        value: { const: { items: [1], additionalItems: 2 } },
      },
    }
    const newer = { type: 'array', prefixItems: [{ type: 'null' }, { type: 'boolean' }] }
    expect(engineSchema(schema)).toEqual({
      type: 'object',
      properties: {
        closed: { ...newer, items: false },
        open: { ...newer, items: { type: 'null' } },
        list: { type: 'array', items: { type: 'null' } },
        any: { type: 'array', items: true },
        items: { $ref: '#/properties/closed/prefixItems/1' },
        rest: { $ref: '#/properties/open/items' },
        same: { $ref: '#/properties/list/items' },
        value: { const: { items: [1], additionalItems: 2 } },
      },
    })
  })

  test.each([
    ['a(b+)?c', 'a(b+|)c'],
    ['(a)??', '(a|)'],
    ['[)?](\\)?)?', '[)?](\\)?|)'],
    ['(a|b)*', '(a|b)*'],
  ])('is the pattern %s as %s', (pattern, written) => {
    expect(withoutOptionalGroups(pattern)).toBe(written)
  })

  test.each([
    ['uri', 445],
    ['email', 254],
    ['hostname', 253],
  ])('has no longer texts of the format %s than may be asked for', (format, most) => {
    const ofLength = (maxLength: number) => ({ type: 'string', format, maxLength })
    expect(problemOf(ofLength(most))).toBeUndefined()
    expect(problemOf(ofLength(most - 1))?.path).toEqual(['format'])
    const { pattern } = engineSchema(ofLength(most)) as { pattern: string }
    expect(patternWithLengths(pattern, { least: 1, most })).toBe(pattern)
  })

  test.each([
    ['a{128}[b-d]{0,128}', 'a{128}[b-d]{0,128}'],
    ['^[\\]a]{0,130}$', '^([\\]a]{0,127}|[\\]a]{128}[\\]a]{0,2})$'],
    ['\\d{300}\\[{2}', '\\d{128}\\d{128}\\d{44}\\[{2}'],
    ['a{130,}b', 'a{128}a{2}a*b'],
    ['.{150,200}?', '.{128}.{22}.{0,50}'],
    ['\\[a{0,300}', '\\[(a{0,127}|a{128}(a{0,127}|a{128}a{0,44}))'],
    ['(ab){0,200}', '(ab){0,200}'],
  ])('is the pattern %s as %s, of shorter repetitions', (pattern, written) => {
    expect(withShortRepetitions(pattern)).toBe(written)
  })

  test('matches the same texts with shorter repetitions', () => {
    for (const pattern of ['^a{0,300}$', '^a{130,257}$', '^a{256}$', '^a{127,129}$', '^a{129,}$']) {
      const [before, after] = [new RegExp(pattern), new RegExp(withShortRepetitions(pattern))]
      for (let length = 0; length < 400; length++)
        expect(after.test('a'.repeat(length)), `${length} of ${pattern}`).toBe(
          before.test('a'.repeat(length)),
        )
    }
  })
})
