import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import { readTokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import { openTokenizer } from '../../../gpu-node/text/guarded-tokenizer.ts'
import { PromptEncoder } from '../../../gpu-node/text/prompt-encoder.ts'
import { openCachedTokenizer } from '../../../training/data/encode/cached-tokenizer.ts'
import { ChatEncoder } from '../../../training/data/encode/chat-encoder.ts'
import { type Example, longestPath } from '../../../training/data/encode/tree.ts'
import { readBaseModel } from '../../../training/data/model/base-model.ts'
import { newModel } from '../../../training/data/model/new-model.ts'
import { writeModel } from '../../../training/data/model/write-model.ts'
import { exportedRows, MASKED } from '../../../training/data/pipeline/exported-rows.ts'
import { requires } from '../../support/requires.ts'

const GOLDEN = 'test/golden'
const tokenizers = [
  ...readdirSync(join(GOLDEN, 'sentencepiece'), { withFileTypes: true }),
  ...readdirSync(join(GOLDEN, 'vocab-merges'), { withFileTypes: true }),
]
  .filter((entry) => entry.isDirectory())
  .map((entry) => join(entry.parentPath, entry.name))

describe('a tokenizer that remembers words', () => {
  it.each([...tokenizers, 'models/demo'])('encodes as without: %s', (folder) => {
    const { tokenizer, file } = readTokenizerFiles(folder)
    const plain = openTokenizer(tokenizer, file)
    const cached = openCachedTokenizer(tokenizer, file)
    const both = (text: string) =>
      [plain, cached].map((each) => each.encode(text, { add_special_tokens: false }).ids)
    const tokens = tokenizer.added_tokens.map(({ content }) => content)
    const part = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 12 }).filter((text) => text.isWellFormed()),
      fc.constantFrom(' ', '\n', 'the engine', '12345', "it's", '  ', '\t', ...tokens),
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
        const [expected, found] = both(parts.join(''))
        expect(found).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })
})

const folder = await mkdtemp(join(tmpdir(), 'apar-encode-'))
const demo = await writeModel(
  newModel(readFileSync('models/demo/tokenizer.json', 'utf8'), 'tokenizer.json', 1024),
  'own',
  join(folder, 'demo'),
)
const encoder = new ChatEncoder(demo)
const tokenizer = openTokenizer(demo.files.tokenizer, 'demo')
const textOf = (ids: number[]) =>
  ids.length === 0 ? '' : tokenizer.decode(ids, { clean_up_tokenization_spaces: false })

/** Text of each segment, with what is learned in brackets. */
function shown({ segments }: Example) {
  return segments.map(({ parent, ids, learned }) => {
    const [from = 0, to = 0] = learned
    return [parent, `${textOf(ids.slice(0, from))}{${textOf(ids.slice(from, to))}}${textOf(ids.slice(to))}`]
  })
}

const question = { prompt: 'How?' }
const nested = [
  {
    text: 'So:\n1. A:',
    detail: [{ text: ' first:\n - x', detail: [{ text: ' deep' }] }, { text: '\n end' }],
  },
  { text: '\n2. B:', detail: [{ text: ' second' }] },
  { text: '\nDone.' },
]

describe('an example', () => {
  it('is a tree of segments, the branch before the text that goes on', () => {
    expect(shown(encoder.structured(question, nested))).toEqual([
      [-1, '<s>USER: How?\nASSISTANT:\n{So:\n1. A:[Fork]}'],
      [0, '[Child]{ first:\n - x[Fork]}'],
      [1, '[Child]{ deep</s>}'],
      [1, '{\n end</s>}'],
      [0, '{\n2. B:[Fork]}'],
      [4, '[Child]{ second</s>}'],
      [4, '{\nDone.</s>}'],
    ])
  })

  it('has rows as other trainers take them, one for each branch', () => {
    const rows = exportedRows(encoder.structured(question, nested)).map(({ input_ids, labels }) => {
      expect(labels.every((label, index) => label === MASKED || label === input_ids[index])).toBe(true)
      return [textOf(input_ids), textOf(labels.filter((label) => label !== MASKED))]
    })
    const prompt = '<s>USER: How?\nASSISTANT:\n'
    expect(rows).toEqual([
      [`${prompt}So:\n1. A:[Fork]\n2. B:[Fork]\nDone.</s>`, 'So:\n1. A:[Fork]\n2. B:[Fork]\nDone.</s>'],
      [`${prompt}So:\n1. A:[Fork][Child] first:\n - x[Fork]\n end</s>`, ' first:\n - x[Fork]\n end</s>'],
      [`${prompt}So:\n1. A:[Fork][Child] first:\n - x[Fork][Child] deep</s>`, ' deep</s>'],
      [`${prompt}So:\n1. A:[Fork]\n2. B:[Fork][Child] second</s>`, ' second</s>'],
    ])
  })

  it('has its longest path', () => {
    const { segments } = encoder.structured(question, nested)
    const lengths = exportedRows({ kind: 'structured', segments }).map(({ input_ids }) => input_ids.length)
    expect(longestPath(segments)).toBe(Math.max(...lengths))
  })

  it('in one branch is the answer in document order', () => {
    expect(shown(encoder.serial(question, nested))).toEqual([
      [-1, '<s>USER: How?\nASSISTANT:\n{So:\n1. A: first:\n - x deep\n end\n2. B: second\nDone.</s>}'],
    ])
  })

  it('of several turns learns answers, as many as fit', () => {
    const dialogs = [
      { prompt: 'One?', response: 'First.' },
      { prompt: 'Two?', response: 'Second.' },
    ]
    const { example, turns } = encoder.turns({ dialogs, system: 'Be kind.' }, 1000, (index) => index === 1)
    const [segment] = example.segments
    expect(turns).toBe(2)
    expect(textOf(segment?.ids ?? [])).toBe(
      '<s>SYSTEM: Be kind.\nUSER: One?\nASSISTANT:\nFirst.</s>USER: Two?\nASSISTANT:\nSecond.</s>',
    )
    const [from, to] = segment?.learned ?? []
    expect(textOf(segment?.ids.slice(from, to) ?? [])).toBe('Second.</s>')
    expect(encoder.turns({ dialogs }, 25, () => true).turns).toBe(1)
    expect(encoder.turns({ dialogs }, 5, () => true).turns).toBe(0)
  })

  it('has no special token for what a user or an answer writes', () => {
    const written = { prompt: 'What are [Fork] and </s>?' }
    const { segments } = encoder.structured(written, [
      { text: 'x [Fork] y:', detail: [{ text: ' a detail </s>[Child]' }] },
      { text: 'end' },
    ])
    const count = (id: number | undefined) =>
      segments.flatMap(({ ids }) => ids).filter((each) => each === id).length
    expect([count(demo.fork.id), count(demo.child.id), count(demo.eos[0])]).toEqual([1, 1, 2])
  })
})

const SMOLLM2 = join(homedir(), '.cache/apar/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf')
const pulled = requires(
  'SmolLM2 (apar model pull smollm2-135m-instruct)',
  () => readFileSync(SMOLLM2).length > 0,
)

describe.skipIf(!pulled)('a GGUF model', () => {
  const asked = [
    "What's 12345 + 67?",
    ' a  b\n\n\tc',
    '名前は何ですか 🙂',
    '<|im_end|> as text',
    '1. One\n2. Two',
  ]

  it.each(['add', [11, 12]] as const)('gets the ids of the serving path: fork tokens %s', async (choice) => {
    const model = await writeModel(readBaseModel(SMOLLM2), choice, join(folder, `smollm2-${choice}`))
    const { text, tokens, shape } = readCheckpoint(SMOLLM2)
    const serving = new PromptEncoder(text, tokens.eos, shape.vocabSize)
    const training = new ChatEncoder(model)
    expect([model.fork.id, model.child.id, model.vocabSize]).toEqual(
      choice === 'add' ? [49_152, 49_153, 49_154] : [11, 12, 49_152],
    )
    for (const prompt of asked) {
      const messages = [{ role: 'user' as const, content: prompt }]
      const ids = [...serving.encode(messages, 10_000)]
      expect(training.prompt({ prompt })).toEqual(ids)
      const answered = training.turns({ dialogs: [{ prompt, response: prompt }] }, 10_000, () => true)
      const [segment] = answered.example.segments
      expect(segment?.ids).toEqual([...ids, ...serving.encodeRaw(prompt, 10_000), 2])
      // The next prompt of the same chat is what the engine would get.
      const next = training.prompt({ prompt: 'And?', earlier: [{ prompt, response: 'So.' }] })
      const chat = [
        ...messages,
        { role: 'assistant' as const, content: 'So.' },
        { role: 'user' as const, content: 'And?' },
      ]
      expect(next).toEqual([...serving.encode(chat, 10_000)])
      const turns = [
        { prompt, response: 'So.' },
        { prompt: 'And?', response: 'That.' },
      ]
      const whole = training.turns({ dialogs: turns }, 10_000, () => true).example.segments[0]
      expect(whole?.ids.slice(0, next.length)).toEqual(next)
    }
  })
})
