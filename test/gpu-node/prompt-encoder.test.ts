import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import { type Json, SPECIAL, TEMPLATE, tinyTokenizer, VOCAB_SIZE } from '../support/tiny-checkpoint.ts'

const CONTROL: readonly number[] = Object.values(SPECIAL)

function encoder(template = TEMPLATE, tokenizer: Json = tinyTokenizer()): PromptEncoder {
  return new PromptEncoder(
    {
      file: 'tokenizer.json',
      tokenizer: tokenizer as never,
      chatTemplate: { source: template, file: 'chat.jinja' },
      rawPrefix: '<s>',
      named: { bos_token: '<s>', eos_token: '</s>' },
    },
    [],
    VOCAB_SIZE,
  )
}

function encode(messages: ChatMessage[], template?: string): number[] {
  return [...encoder(template).encode(messages, 100_000)]
}

/** Token ids as text: bytes as characters, control tokens as <id>. */
function show(ids: readonly number[]): string {
  return ids.map((id) => (id < 256 ? String.fromCharCode(id) : `<${id}>`)).join('')
}

const user = (content: string): ChatMessage[] => [{ role: 'user', content }]

describe('prompts', () => {
  test('are the rendered template, with its special tokens as tokens', () => {
    expect(show(encode(user('hi')))).toBe('<256>user: hi\nA:')
  })

  test('without a template are the text after the BOS token, without control tokens', () => {
    expect(show([...encoder().encodeRaw('once upon', 100)])).toBe('<256>once upon')
    expect(show([...encoder().encodeRaw('a[Fork]</s>', 100)])).toBe('<256>a[Fork]</s>')
    expect(() => encoder().encodeRaw('too long', 3)).toThrow(/> 3 maximum/)
  })

  test('without any token are refused, with the field that could have some', () => {
    const refusal = expect.objectContaining({ code: 'invalid_request', param: 'messages' })
    for (const template of ['', '{{ messages[0].content }}'])
      expect(() => encoder(template).encodePrompt({ messages: user('') }, 9)).toThrow(refusal)
  })

  test.each(Object.keys(SPECIAL))('%s in user text is encoded as plain text', (token) => {
    expect(show(encode(user(`a ${token} b`)))).toBe(`<256>user: a ${token} b\nA:`)
  })

  test('control tokens cannot be assembled from several messages or from adjacent template text', () => {
    const glue = '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}rk]'
    const messages: ChatMessage[] = [
      { role: 'user', content: '[' },
      { role: 'assistant', content: 'Fork][Fo' },
    ]
    expect(show(encode(messages, glue))).toBe('<256>[Fork][Fork]')
  })

  test('no user text becomes a control token, and none of it is lost', () => {
    const part = fc.constantFrom(
      '[',
      'Fork',
      ']',
      '[Fork]',
      '[Child]',
      '</s>',
      '<',
      's',
      '>',
      '<s>',
      ' ',
      '\n',
      'é',
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        const content = parts.join('')
        const ids = encode(user(content))
        expect(ids.filter((id) => CONTROL.includes(id))).toEqual([SPECIAL['<s>']])
        const text = Buffer.from(ids.filter((id) => id < 256)).toString()
        expect(text).toBe(`user: ${content}\nA:`)
      }),
    )
  })

  test('a template can still trim text that looks like a token', () => {
    const trims = '{% for m in messages %}{{ m.content | trim }}|{% endfor %}'
    expect(show(encode(user('  [Fork]  '), trims))).toBe('[Fork]|')
  })

  test('lone surrogates are accepted', () => {
    expect(() => encode(user('\ud800x'))).not.toThrow()
  })

  test('a prompt that is too long is refused with a code', () => {
    const prompts = encoder()
    expect(() => prompts.encode(user('x'.repeat(50)), 20)).toThrow(/> 20 maximum/)
    expect(() => prompts.encode(user('x'.repeat(1_000_000)), 20)).toThrow(/resulted in \d+ tokens or more/)
  })

  test('an error of the template is an invalid request', () => {
    const strict =
      "{{ raise_exception('roles must alternate') if messages | length > 1 }}{{ messages[0].content }}"
    const messages: ChatMessage[] = [...user('a'), ...user('b')]
    expect(() => encode(messages, strict)).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: 'messages' }),
    )
  })
})

describe('the space that some tokenizers add before a text', () => {
  const file = {
    ...tinyTokenizer(),
    normalizer: { type: 'Prepend', prepend: '▁' },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }],
    },
    model: {
      type: 'BPE',
      vocab: { '▁': 0, x: 1, A: 2, ':': 3 },
      merges: [],
      unk_token: null,
      byte_fallback: false,
    },
  }
  const drops = (source: string) => {
    const chatTemplate = { source, file: 'chat.jinja' }
    return new PromptEncoder({ file: '', tokenizer: file as never, chatTemplate, rawPrefix: '', named: {} })
      .dropsLeadingSpace
  }

  test('is dropped from an answer right after a special token', () => {
    expect(drops('{{ messages[0].content }}</s>')).toBe(true)
  })

  test('is kept from an answer that continues a text', () => {
    expect(drops('{{ messages[0].content }}A:')).toBe(false)
  })
})
