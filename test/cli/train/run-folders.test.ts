import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  checkHeadsFolder,
  checkModelFolder,
  checkRunFolder,
  hasState,
} from '../../../cli/train/run-folders.ts'

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-folders-'))
})

afterEach(() => rmSync(root, { recursive: true }))

function folder(name: string, files: Readonly<Record<string, string>>): string {
  const path = join(root, name)
  mkdirSync(path)
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text)
  return path
}

const paths = (out: string, model?: string) => ({
  ...{ data: join(root, 'data'), out, run: join(root, 'run'), model },
})
const check = (out: string, model?: string) => checkModelFolder(paths(out, model))
const refused = (message: string) =>
  expect.objectContaining({ code: 'foreign_folder', message: expect.stringContaining(message) })

const CONFIG = JSON.stringify({ branching: { fork_token: '[Fork]', child_token: '[Child]' } })

describe('the model folder of a run', () => {
  test('may be new, empty, or what an earlier run wrote, with Medusa heads and a page', () => {
    check(join(root, 'new'))
    check(folder('empty', {}))
    const files = ['model-00001-of-00002.safetensors', 'model.safetensors.index.json', 'tokenizer.json']
    const out = folder('ours', Object.fromEntries(['README.md', ...files].map((name) => [name, ''])))
    writeFileSync(join(out, 'config.json'), CONFIG)
    mkdirSync(join(out, 'medusa'))
    check(out)
    check(
      folder('adapter', {
        'config.json': CONFIG,
        'adapter_config.json': '',
        'adapter_model.safetensors': '',
      }),
    )
  })

  test.each([
    [
      'a file that no run writes',
      { 'config.json': CONFIG, 'thesis.tex': '' },
      'it has thesis.tex, which no run',
    ],
    ['a repository', { 'config.json': CONFIG, '.git': '' }, 'it has .git, which no run'],
    [
      'a model of another kind',
      { 'config.json': '{}', 'model.safetensors': '' },
      'no config.json with the branching',
    ],
    ['only a page', { 'README.md': '' }, 'it has README.md, but no config.json'],
  ])('is refused with %s', (_, files, message) => {
    const out = folder('out', files)
    expect(() => check(out)).toThrow(refused(message))
  })

  test('is refused where the run reads or writes something else', () => {
    const out = folder('out', { 'config.json': CONFIG })
    expect(() => check(out, out)).toThrow(refused('--model is in it'))
    symlinkSync(out, join(root, 'link'))
    expect(() => check(out, join(root, 'link'))).toThrow(refused('--model is in it'))
    expect(() => check(root)).toThrow(refused('--data is in it'))
    writeFileSync(join(root, 'file'), '')
    expect(() => check(join(root, 'file'))).toThrow(expect.objectContaining({ code: 'invalid_option' }))
  })
})

describe('the folder of heads', () => {
  const HEADS = { 'config.json': '{"medusa_num_heads": 2}', 'medusa_lm_head.safetensors': '' }
  const checkHeads = (out: string, model?: string) => checkHeadsFolder(paths(out, model))

  test('may be new, empty, or what an earlier run wrote, within the model or not', () => {
    checkHeads(join(root, 'new'))
    const model = folder('model', { 'config.json': CONFIG, 'model.safetensors': '' })
    checkHeads(folder('model/medusa', { ...HEADS, 'README.md': '' }), model)
  })

  test('is refused if it is the model, the adapter, or anything else', () => {
    const model = folder('model', { 'config.json': CONFIG, 'tokenizer.json': '' })
    expect(() => checkHeads(model, model)).toThrow(refused('--model is in it'))
    expect(() => checkHeadsFolder({ ...paths(model), adapter: model })).toThrow(refused('--adapter is in it'))
    expect(() => checkHeads(model)).toThrow(refused('it has tokenizer.json, which no run'))
    const published = folder('published', { ...HEADS, 'medusa_lm_head.pt': '' })
    expect(() => checkHeads(published)).toThrow(refused('it has medusa_lm_head.pt'))
    const other = folder('other', { 'config.json': CONFIG })
    expect(() => checkHeads(other)).toThrow(refused('no config.json with the medusa_num_heads'))
  })
})

describe('the folder of a run', () => {
  test('may be new, a run, or one that was started without apar', () => {
    checkRunFolder(join(root, 'new'))
    checkRunFolder(folder('run', { 'invocations.jsonl': '', 'notes.txt': '' }))
    checkRunFolder(folder('by-hand', { 'log.jsonl': '{"step": 0, "event": "begun"}\n{"st' }))
    checkRunFolder(folder('locked', { 'train-1-a-b.lock': '' }))
  })

  test.each([
    ['of something else', { 'notes.txt': '' }, 'it has notes.txt, but no invocations.jsonl'],
    ['with a log of something else', { 'log.jsonl': 'GET / 200\n' }, 'it has log.jsonl'],
  ])('is refused if it is one %s', (_, files, message) => {
    const run = folder('run', files)
    expect(() => checkRunFolder(run)).toThrow(refused(message))
  })

  test('has a state when it is whole', () => {
    const run = folder('run', {})
    mkdirSync(join(run, 'state-00000003.part'))
    expect(hasState(run)).toBe(false)
    mkdirSync(join(run, 'state-00000003'))
    expect(hasState(run)).toBe(true)
  })
})
