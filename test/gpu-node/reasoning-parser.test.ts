import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { modelReasoning, REASONING_FORMATS } from '../../gpu-node/reasoning/reasoning-format.ts'
import { type ParserStart, ReasoningParser } from '../../gpu-node/reasoning/reasoning-parser.ts'

const { think } = REASONING_FORMATS

function parse(pieces: readonly string[], start: ParserStart = 'before', format = think) {
  const parser = new ReasoningParser(format, start)
  const parts = [...pieces.map((piece) => parser.push(piece)), parser.flush()]
  const whole = {
    reasoning: parts.map(({ reasoning }) => reasoning).join(''),
    content: parts.map(({ content }) => content).join(''),
  }
  const text = pieces.join('')
  // Positions of the content are those of the whole text.
  if (whole.content !== '') expect(text.slice(parser.contentStart).startsWith(whole.content), text).toBe(true)
  return whole
}

function splits(text: string, cuts: readonly number[]): string[] {
  const places = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b)
  return [...places, text.length].map((end, index) => text.slice(index === 0 ? 0 : places[index - 1], end))
}

/** Texts that look like markers. */
const text = (...looks: string[]) =>
  fc
    .array(fc.oneof(fc.string({ maxLength: 5 }), fc.constantFrom(...looks, '\n', ' ', '</', '<t')), {
      maxLength: 6,
    })
    .map((parts) => parts.join('').trim())

describe.each(Object.entries(REASONING_FORMATS))('reasoning in the format %s', (_, format) => {
  const { open, close } = format
  const reasoning = text(open.slice(0, 4), close.slice(0, 5), close.slice(0, -1))
  const content = text(open, close, open.slice(0, -1))
  const isReasoning = (thought: string) => !thought.includes(open) && !thought.includes(close)

  test('is read from any pieces', () => {
    fc.assert(
      fc.property(reasoning, content, fc.array(fc.nat(), { maxLength: 12 }), (thought, said, cuts) => {
        fc.pre(isReasoning(thought) && !said.startsWith(open))
        const spans = [`${open}${thought}${close}${said}`, `\n${open}\n${thought}\n${close}\n\n${said}`]
        for (const answer of spans)
          expect(parse(splits(answer, cuts), 'before', format)).toEqual({ reasoning: thought, content: said })
        // The prompt has the marker that begins it; a model may write it again.
        for (const answer of [`${thought}${close}${said}`, `${open}\n${thought} ${close} ${said}`])
          expect(parse(splits(answer, cuts), 'inside', format)).toEqual({ reasoning: thought, content: said })
      }),
      { numRuns: 500 },
    )
  })

  test('is read from each split of two', () => {
    const answer = `${open}\nA${close.slice(0, 3)} b\n\nc\n${close}\n\nSay ${open} or ${close}.`
    const expected = { reasoning: `A${close.slice(0, 3)} b\n\nc`, content: `Say ${open} or ${close}.` }
    for (let cut = 0; cut <= answer.length; cut++)
      expect(parse([answer.slice(0, cut), answer.slice(cut)], 'before', format)).toEqual(expected)
    expect(parse([...answer], 'before', format)).toEqual(expected)
  })

  test('has no part of a marker where it is cut off', () => {
    const answer = `${open}\nA b.\n${close}\n\nSo`
    for (let end = open.length; end <= answer.length; end++) {
      const { reasoning, content } = parse([...answer.slice(0, end)], 'before', format)
      expect('A b.'.startsWith(reasoning.trimEnd())).toBe(true)
      expect('So'.startsWith(content)).toBe(true)
    }
  })

  test('of a branch that thinks is all of its text', () => {
    const answer = `${open}a ${close} b${close}`
    for (let cut = 0; cut <= answer.length; cut++)
      expect(parse([answer.slice(0, cut), answer.slice(cut)], 'branch', format)).toEqual({
        reasoning: 'a b',
        content: '',
      })
  })
})

describe('an answer', () => {
  test('without reasoning is content, with its white space', () => {
    for (const answer of ['', ' ', '\n a ', 'a <think>b</think>', '<thi', '<b> <think>'])
      expect(parse([...answer])).toEqual({ reasoning: '', content: answer })
  })

  test('may have several spans in front of its content', () => {
    const answer = '<think>a</think>\n<think></think> <think>b</think>\n\nc'
    expect(parse([answer])).toEqual({ reasoning: 'a\nb', content: 'c' })
    expect(parse([...answer])).toEqual({ reasoning: 'a\nb', content: 'c' })
  })

  test('releases at a fork what was held back', () => {
    const parser = new ReasoningParser(think, 'inside')
    expect(parser.push('a \n')).toEqual({ reasoning: 'a', content: '' })
    expect(parser.release()).toEqual({ reasoning: ' \n', content: '' })
    expect(parser.push('b</think>\n')).toEqual({ reasoning: 'b', content: '' })
    expect(parser.push('c')).toEqual({ reasoning: '', content: 'c' })
    const plain = new ReasoningParser(think, 'before')
    plain.push('<th')
    expect(plain.release()).toEqual({ reasoning: '', content: '<th' })
    expect(plain.push('ink>')).toEqual({ reasoning: '', content: 'ink>' })
  })
})

describe('the format of a model', () => {
  const files = (source: string, ...tokens: string[]) => ({
    chatTemplate: { source },
    tokenizer: {
      added_tokens: tokens.map((content, id) => ({ id, content, special: content === '[THINK]' })),
    },
  })

  test.each([
    ["{% if '</think>' in content %}", [], 'think'],
    ['', ['<think>', '</think>'], 'think'],
    ['', ['<think>'], undefined],
    ['[THINK] [/THINK]', ['[THINK]', '[/THINK]'], 'mistral'],
    ['</seed:think>', [], 'seed'],
    ['{{ messages }}', [], undefined],
  ] as const)('of template %j with tokens %j is %s', (source, tokens, name) => {
    expect(modelReasoning(files(source, ...tokens))?.format).toEqual(name && REASONING_FORMATS[name])
  })

  test('is that of the operator', () => {
    expect(modelReasoning(files('</think>'), 'none')).toBeUndefined()
    expect(modelReasoning(files(''), 'think')?.format).toEqual(think)
    expect(modelReasoning(files('', '[THINK]', '[/THINK]'))?.tokens).toEqual({ '[THINK]': 0 })
  })
})
