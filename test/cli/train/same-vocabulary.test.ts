import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { refuseOtherVocabulary } from '../../../cli/train/same-vocabulary.ts'
import { readBaseModel } from '../../../training/data/model/base-model.ts'
import type { ForkTokens } from '../../../training/data/model/fork-tokens.ts'
import { writeModel } from '../../../training/data/model/write-model.ts'

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-vocabulary-'))
})

afterEach(() => rmSync(root, { recursive: true }))

/** The demo model as if it had never learned to fork: its two tokens have other names. */
function base(name: string, change: (tokenizer: string) => string = (text) => text): string {
  const folder = join(root, name)
  mkdirSync(folder)
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'])
    cpSync(join('models/demo', file), join(folder, file))
  const edit = (file: string, edited: (text: string) => string) =>
    writeFileSync(join(folder, file), edited(readFileSync(join(folder, file), 'utf8')))
  edit('tokenizer.json', (text) =>
    change(text.replaceAll('[Fork]', '<unused-1>').replaceAll('[Child]', '<unused-2>')),
  )
  edit('config.json', (text) => {
    const { branching: _forks, apar: _older, ...config } = JSON.parse(text)
    return JSON.stringify(config)
  })
  return folder
}

async function data(name: string, model: string, tokens: ForkTokens): Promise<string> {
  await writeModel(readBaseModel(model, 'chatml'), tokens, join(root, name, 'model'))
  return join(root, name)
}

const { added_tokens } = JSON.parse(readFileSync('models/demo/tokenizer.json', 'utf8'))
const idOf = (token: string): number =>
  added_tokens.find(({ content }: { content: string }) => content === token).id
const TAKEN: ForkTokens = [idOf('[Fork]'), idOf('[Child]')]

const named = (path: string, adapter?: string) => ({ name: path, path, adapter })

test('the model that the data were built for is taken, before and after it was tuned', async () => {
  const model = base('base')
  for (const [name, tokens] of [
    ['added', 'add'],
    ['taken', TAKEN],
  ] as const) {
    const built = await data(name, model, tokens)
    refuseOtherVocabulary(built, named(model))
    // The folder beside an adapter, or that of the tuned model.
    refuseOtherVocabulary(built, named(join(built, 'model')))
    refuseOtherVocabulary(built, named(model, join(built, 'model')))
  }
})

test('new tokens and tokens that were taken over are told apart', async () => {
  const model = base('base')
  const [added, taken] = [await data('added', model, 'add'), await data('taken', model, TAKEN)]
  expect(() => refuseOtherVocabulary(added, named(join(taken, 'model')))).toThrow(
    expect.objectContaining({
      code: 'other_vocabulary',
      message: expect.stringMatching(
        new RegExp(
          `were built for ${model}, not for ${taken}/model: \\[Fork\\] and \\[Child\\] are tokens 4096 and 4097 there, ${TAKEN[0]} and ${TAKEN[1]} here \\(vocabularies \\w{12} and \\w{12}\\)`,
        ),
      ),
    }),
  )
  expect(() => refuseOtherVocabulary(taken, named(model, join(added, 'model')))).toThrow('are tokens')
})

test('a model of another vocabulary is refused by the first token that differs', async () => {
  const built = await data('data', base('base'), TAKEN)
  const other = base('other', (text) => {
    const tokenizer = JSON.parse(text)
    const { vocab } = tokenizer.model
    const [one, two] = Object.keys(vocab).slice(500, 502)
    if (one === undefined || two === undefined) throw new Error('a small vocabulary')
    ;[vocab[one], vocab[two]] = [vocab[two], vocab[one]]
    return JSON.stringify(tokenizer)
  })
  expect(() => refuseOtherVocabulary(built, named(other))).toThrow(/token \d+ is ".*" there, ".*" here/)
})

test('what has no tokenizer is left to the trainer', async () => {
  const built = await data('data', base('base'), 'add')
  mkdirSync(join(root, 'empty'))
  refuseOtherVocabulary(built, named(join(root, 'empty')))
  refuseOtherVocabulary(join(root, 'empty'), named(built))
})
