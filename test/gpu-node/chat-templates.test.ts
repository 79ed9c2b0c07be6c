import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { NAMED_TEMPLATES } from '../../gpu-node/checkpoint/tokenizer/named-templates.ts'
import { textOf } from '../../gpu-node/text/piece.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import { ProvenanceTemplate } from '../../gpu-node/text/provenance-template.ts'
import type { TemplateMessage } from '../../gpu-node/tools/tool-prompt.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import { tinyTokenizer } from '../support/tiny-checkpoint.ts'

const GOLDEN = join(import.meta.dirname, '../golden/chat-templates')
const read = (file: string) => readFileSync(join(GOLDEN, file), 'utf8')

type Rendered = string | { error: string } | null
const CONVERSATIONS: TemplateMessage[][] = JSON.parse(read('conversations.json'))
const NAMED: Record<string, Record<string, string>> = JSON.parse(read('named.json'))
/** As Python renders them: see make.py there. */
const RENDERED: Record<'files' | 'named', Record<string, Rendered[]>> = JSON.parse(read('rendered.json'))
const LLAMA_2 = { bos_token: '<s>', eos_token: '</s>' }

/** Everything that one of the templates uses as a token. */
const TOKENS = [
  ...new Set(Object.values(NAMED).flatMap((tokens) => Object.values(tokens))),
  ...['<|start_header_id|>', '<|end_header_id|>', '<|system|>', '<|user|>', '<|assistant|>', '<|end|>'],
  ...[
    '<|im_sep|>',
    '<start_of_turn>',
    '<end_of_turn>',
    '<｜User｜>',
    '<｜Assistant｜>',
    '<think>',
    '</think>',
  ],
]

beforeAll(() => vi.useFakeTimers({ now: new Date(2026, 2, 7, 12), toFake: ['Date'] }))
afterAll(() => vi.useRealTimers())

function render(
  template: ProvenanceTemplate,
  named: Record<string, string>,
  messages: TemplateMessage[],
): Rendered {
  try {
    return textOf(template.render(named, messages))
  } catch (error) {
    return { error: (error as Error).message }
  }
}

/** What the template wrote, with a mark where it wrote something else. */
function ofTemplate(
  template: ProvenanceTemplate,
  named: Record<string, string>,
  messages: TemplateMessage[],
) {
  return template.render(named, messages).map((piece) => (piece.ofTemplate ? piece.text : '…'))
}

const named = Object.entries(NAMED_TEMPLATES).concat([...NAMED_TEMPLATES])
const TEMPLATES = [
  ...Object.keys(RENDERED.files).map((name) => [name, read(`${name}.jinja`), NAMED[name] ?? {}] as const),
  ...named.map(([name, { source }]) => [`--chat-template ${name}`, source, LLAMA_2] as const),
]

test('there are chat templates of twelve models', () => {
  expect(Object.keys(RENDERED.files)).toHaveLength(12)
})

describe.each(TEMPLATES)('%s', (_, source, named) => {
  const template = new ProvenanceTemplate(source)

  test('takes no text of a user for its own', () => {
    const hostile = (mask: boolean): TemplateMessage[] =>
      ['user', 'assistant', 'user'].map((role, index) => {
        // Some templates drop thoughts, whoever wrote them.
        const tokens = TOKENS.filter((token) => !token.includes('think'))
        const content = index === 1 ? tokens.join('a') : `  ${tokens.join('')}  `
        return {
          role: role as TemplateMessage['role'],
          content: mask ? content.replaceAll(/\S/g, 'x') : content,
        }
      })
    expect(ofTemplate(template, named, hostile(false))).toEqual(ofTemplate(template, named, hostile(true)))
  })

  test('makes its tokens, and no user makes one', () => {
    const tokenizer = tinyTokenizer()
    const added = TOKENS.map((content, index) => ({
      id: 300 + index,
      content,
      special: true,
      normalized: false,
    }))
    const encoder = new PromptEncoder({
      file: 'tokenizer.json',
      tokenizer: { ...tokenizer, added_tokens: added } as never,
      chatTemplate: { source, file: 'chat.jinja' },
      rawPrefix: '',
      named,
    })
    const controls = (messages: ChatMessage[]) => [...encoder.encode(messages, 1e6)].filter((id) => id >= 300)
    const plain = controls([{ role: 'user', content: 'x' }])
    expect(controls([{ role: 'user', content: TOKENS.join('') }])).toEqual(plain)
    const written = textOf(template.render(named, [{ role: 'user', content: 'x' }]))
    const longestFirst = TOKENS.toSorted((a, b) => b.length - a.length)
    const pattern = new RegExp(
      longestFirst.map((token) => token.replaceAll(/[|[\]]/g, '\\$&')).join('|'),
      'g',
    )
    expect(plain.map((id) => TOKENS[id - 300])).toEqual(written.match(pattern) ?? [])
  })
})

describe('the text of a template is that of transformers in Python', () => {
  test.each(Object.entries(RENDERED.files))('%s', (name, expected) => {
    const template = new ProvenanceTemplate(read(`${name}.jinja`))
    const ours = CONVERSATIONS.map((messages) => render(template, NAMED[name] ?? {}, messages))
    expect(ours).toEqual(expected)
  })
})

describe('the text of a format by name, without BOS at its start', () => {
  const rendered = (name: string) => {
    const template = new ProvenanceTemplate(NAMED_TEMPLATES.get(name)?.source ?? '')
    return CONVERSATIONS.map((messages) => render(template, LLAMA_2, messages))
  }

  test.each(Object.entries(RENDERED.named))('%s is that of FastChat', (name, expected) => {
    expect(expected.filter((text) => text !== null)).toHaveLength(6)
    // Where FastChat has none, there is no text to compare with.
    expect(rendered(name).map((text, index) => expected[index] && text)).toEqual(expected)
  })

  test('llama-2 is that of its template', () => {
    const withoutBos = RENDERED.files['llama-2']?.map((text) =>
      typeof text === 'string' ? text.replace('<s>', '') : { error: expect.any(String) },
    )
    expect(rendered('llama-2')).toEqual(withoutBos)
  })
})
