import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type CheckpointOptions, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { openTokenizer } from '../../gpu-node/text/guarded-tokenizer.ts'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import {
  headerOf,
  safetensors,
  type TinyFolder,
  tinyCheckpoint,
  tinyConfig,
  tinyTensors,
  tinyTokenizerConfig,
} from '../support/tiny-checkpoint.ts'

const GOLDEN = join(import.meta.dirname, '../golden')

let folder: TinyFolder
beforeEach(() => {
  folder = tinyCheckpoint()
})
afterEach(() => folder.remove())

const template = (options?: CheckpointOptions) => readCheckpoint(folder.path, options).text.chatTemplate
const withoutTemplate = () =>
  folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: null })

function refusal(options?: CheckpointOptions): StartupError {
  try {
    const { text } = readCheckpoint(folder.path, options)
    new PromptEncoder(text)
  } catch (error) {
    if (error instanceof StartupError) return error
    throw error
  }
  throw new Error('was not refused')
}

describe('the chat template of a folder', () => {
  test('is that of the first of these files which has one', () => {
    const path = (name: string) => join(folder.path, name)
    withoutTemplate()
    expect(template()).toBeUndefined()
    folder.write('chat_template.json', { chat_template: 'json' })
    expect(template()).toEqual({ source: 'json', file: path('chat_template.json') })
    folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template: 'config' })
    expect(template()).toEqual({ source: 'config', file: path('tokenizer_config.json') })
    mkdirSync(path('additional_chat_templates'))
    folder.write('additional_chat_templates/notes.txt', 'no template')
    expect(template()?.source).toBe('config')
    folder.write('additional_chat_templates/tool_use.jinja', 'tools')
    expect(template()).toEqual({ source: 'tools', file: path('additional_chat_templates/tool_use.jinja') })
    folder.write('additional_chat_templates/default.jinja', 'default')
    expect(template()).toEqual({
      ...{ source: 'default', file: path('additional_chat_templates/default.jinja') },
      toolUse: 'tools',
    })
    folder.write('chat_template.jinja', 'own')
    expect(template()).toEqual({ source: 'own', file: path('chat_template.jinja'), toolUse: 'tools' })
  })

  test('is the one named default in a list, or else its first', () => {
    const list = (...names: string[]) => names.map((name) => ({ name, template: `of ${name}` }))
    const config = (chat_template: unknown) =>
      folder.write('tokenizer_config.json', { ...tinyTokenizerConfig(), chat_template })
    config(list('rag', 'default'))
    expect(template()).toEqual({ source: 'of default', file: expect.any(String) })
    config(list('tool_use', 'default'))
    expect(template()).toMatchObject({ source: 'of default', toolUse: 'of tool_use' })
    config(list('tool_use'))
    expect(template()).toEqual({ source: 'of tool_use', file: expect.any(String) })
    config(list('rag', 'tool_use'))
    expect(template()).toMatchObject({ source: 'of rag', toolUse: 'of tool_use' })
    config(list())
    expect(template()).toBeUndefined()
  })

  test.each([
    ['chat_template.json', { chat_template: 7 }, /chat_template\.json: chat_template/],
    ['chat_template.json', '[', /chat_template\.json: is not valid JSON/],
    ['chat_template.jinja', '{% if %}', /chat_template\.jinja: chat_template: /],
  ])('%s is refused when it is %o', (file, content, message) => {
    withoutTemplate()
    folder.write(file, content)
    expect(refusal().message).toMatch(message)
  })
})

describe('--chat-template', () => {
  test('takes a name or a file, instead of the template of the checkpoint', () => {
    expect(template({ chatTemplate: 'chatml' })).toMatchObject({ file: '--chat-template chatml' })
    folder.write('mine.jinja', '{{ messages[0].content }}')
    const file = join(folder.path, 'mine.jinja')
    expect(template({ chatTemplate: file })).toEqual({ source: '{{ messages[0].content }}', file })
  })

  test('changes the digest', () => {
    const digests = [undefined, 'chatml', 'vicuna_v1.1', 'llama-2'].map(
      (chatTemplate) => readCheckpoint(folder.path, { chatTemplate }).digest,
    )
    expect(new Set(digests).size).toBe(4)
    // The same text, but with the tokenizer's BOS before it or not.
    folder.write('same.jinja', template({ chatTemplate: 'llama-2' })?.source ?? '')
    expect(digests).not.toContain(
      readCheckpoint(folder.path, { chatTemplate: join(folder.path, 'same.jinja') }).digest,
    )
  })

  test('is refused when it is no name and no file, no regular file, or no template', () => {
    const refused = (chatTemplate: string) => refusal({ chatTemplate })
    expect(refused('vicuna')).toMatchObject({
      code: 'invalid_option',
      message: expect.stringMatching(
        /^--chat-template: \/.*\/vicuna does not exist, and vicuna_v1\.1, llama-2, chatml are the known names$/,
      ),
    })
    expect(refused(folder.path).message).toBe(`${folder.path} is a folder, not a file`)
    expect(refused('/dev/null').message).toBe('/dev/null is a device, not a file')
    const broken = join(folder.path, 'broken.jinja')
    writeFileSync(broken, '{{ messages[0')
    expect(refused(broken).message).toMatch(`${broken}: chat_template: `)
    writeFileSync(broken, '{{ 1 | nothing }}')
    expect(refused(broken).message).toMatch(`${broken}: chat_template: refuses every chat`)
  })
})

describe('a published APAR checkpoint, which has a tokenizer.model and added_tokens.json', () => {
  beforeEach(() => {
    const rows = 402
    for (const file of ['tokenizer.json', 'tokenizer_config.json']) rmSync(join(folder.path, file))
    for (const file of ['tokenizer.model', 'added_tokens.json', 'special_tokens_map.json']) {
      copyFileSync(join(GOLDEN, 'sentencepiece/apar', file), join(folder.path, file))
    }
    folder.write('config.json', { ...tinyConfig(), apar: undefined, eos_token_id: 2, vocab_size: rows })
    const tensors = tinyTensors()
    const [, hidden = 0] = tensors.get('model.embed_tokens.weight') ?? []
    tensors.set('model.embed_tokens.weight', [rows, hidden])
    folder.write('model.safetensors', safetensors(headerOf(tensors)))
  })

  test('forks, and has the chat format that it was tuned with', () => {
    const checkpoint = readCheckpoint(folder.path)
    expect(checkpoint.tokens).toEqual({ fork: 400, child: 401, eos: [2] })
    expect(checkpoint.joints).toBe('mended')
    expect(checkpoint.text.chatTemplate).toMatchObject({ file: '--chat-template vicuna_v1.1' })
    expect(template({ chatTemplate: 'chatml' })?.file).toBe('--chat-template chatml')
    folder.write('chat_template.jinja', 'own')
    expect(template()?.source).toBe('own')
  })

  test('gets the prompts that FastChat makes, with BOS from the tokenizer', () => {
    const { text } = readCheckpoint(folder.path)
    const encoder = new PromptEncoder(text, [400, 401, 2])
    const python = openTokenizer(text.tokenizer, text.file)
    const read = (file: string) => JSON.parse(readFileSync(join(GOLDEN, 'chat-templates', file), 'utf8'))
    const conversations: ChatMessage[][] = read('conversations.json')
    const prompts: (string | null)[] = read('rendered.json').named['vicuna_v1.1']
    // A user's `</s>` is a token there, and text here.
    const compared = prompts.flatMap((prompt, index) => {
      const messages = conversations[index] ?? []
      return prompt === null || messages.some(({ content }) => content.includes('</s>'))
        ? []
        : [{ prompt, messages }]
    })
    expect(compared).toHaveLength(5)
    for (const { prompt, messages } of compared) {
      const ids = python.encode(prompt, { add_special_tokens: false }).ids
      expect([...encoder.encode(messages, 10_000)]).toEqual([1, ...ids])
    }
  })
})
