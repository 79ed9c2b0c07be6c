import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { documentText, placesOf } from '../../../shared/token-tree.ts'
import {
  refusalOf,
  refusedBy,
  type Sample,
  sampleById,
  sampleByNumber,
  sampleOfKind,
} from '../../../training/data/inspect/find-sample.ts'
import { child, eos, fork, LIST_TEXT, tinyBuild } from '../../support/tiny-build.ts'

const build = tinyBuild()

/** The tokens of each segment as one text, special tokens by their names, those that are not learned in brackets. */
function shown({ segments }: Sample): string[] {
  return segments.map(({ branch, parent, tokens }) => {
    const texts = tokens.map(({ text, special, given }) =>
      given ? `{${special ?? text}}` : (special ?? text),
    )
    return `${parent ?? '-'} ${branch} ${texts.join('').replaceAll('}{', '')}`
  })
}

const LIST = [
  '- 0 {<s>USER: Which fruit?\nASSISTANT:\n}1. Apples:[Fork]',
  '0 1 {[Child]} they are red and keep all winter.</s>',
  '0 0 \n2. Pears:[Fork]',
  '2 2 {[Child]} softer, and quickly over.</s>',
  '2 0 \n3. Plums:[Fork]',
  '4 3 {[Child]} dark blue, 日本 grows them too.</s>',
  '4 0 </s>',
]

describe('a sample', () => {
  it('by number is the example of the shards, with ids, learned tokens and branches', async () => {
    const sample = await sampleByNumber(build, 'train', 0)
    expect(shown(sample)).toEqual(LIST)
    expect(documentText(sample.segments)).toBe(`USER: Which fruit?\nASSISTANT:\n${LIST_TEXT}`)
    const ids = sample.segments.map(({ tokens }) => [tokens[0]?.id, tokens.at(-1)?.id])
    expect(ids.slice(1, 3)).toEqual([
      [child, eos],
      [ids[2]?.[0], fork],
    ])
  })

  it('by number needs nothing but the shards and the tokenizer', async () => {
    const alone = tinyBuild()
    writeFileSync(join(alone, 'examples.jsonl'), 'broken')
    expect(shown(await sampleByNumber(alone, 'train', 2))).toEqual([
      '- 0 {<s>USER: Why?\nASSISTANT:\n}So.</s>',
    ])
    await expect(sampleByNumber(alone, 'test', 1)).rejects.toThrow('there is no example 1: they are 0 to 0')
  })

  it('by id is found in the shards of its split, structured before serial', async () => {
    const sample = await sampleById(build, 'fruit')
    expect(sample).toMatchObject({
      record: { id: 'fruit', kind: 'list' },
      example: { kind: 'structured', source: 0 },
    })
    expect(sample && shown(sample)).toEqual(LIST)
    expect(await sampleById(build, 'three')).toMatchObject({ split: 'test', example: { source: 2 } })
    expect(await sampleById(build, 'fru')).toBeUndefined()
  })

  it('that is not in the shards is shown as text, nested branches too', async () => {
    const sample = await sampleById(build, 'too-long')
    expect(sample?.example).toBeUndefined()
    expect(sample && shown(sample)).toEqual([
      '- 0 {At length?}First:[Fork]',
      '0 1 {[Child]} a[Fork]',
      '0 0 \nSecond:[Fork]',
      '1 2 {[Child]} a1',
      '1 1  b',
      '2 3 {[Child]} c',
      '2 0 \nEnd.',
    ])
    expect(sample && documentText(sample.segments)).toBe('At length?First: a a1 b\nSecond: c\nEnd.')
    expect(sample && placesOf(sample.segments).map(({ depth }) => depth)).toEqual([1, 2, 1, 3, 2, 2, 1])
  })

  it('of a kind is the first one or a random one', async () => {
    expect(await sampleOfKind(build, 'list', false)).toMatchObject({ record: { id: 'fruit' } })
    expect(await sampleOfKind(build, 'headings', false)).toBeUndefined()
    const found = new Set<string | undefined>()
    for (let tries = 0; tries < 200 && found.size < 2; tries++) {
      found.add((await sampleOfKind(build, 'list', true))?.record?.id)
    }
    expect(found).toEqual(new Set(['fruit', 'three']))
  })

  it('names the line of a broken record', async () => {
    const broken = tinyBuild()
    appendFileSync(join(broken, 'examples.jsonl'), '{"id": "x", "kind": "list", "split": "dev"}\n')
    await expect(sampleById(broken, 'x')).rejects.toThrow(/examples\.jsonl:5: split: /)
  })

  it('is refused when its segments are not a tree of branches', async () => {
    const broken = tinyBuild()
    const file = join(broken, 'train/00000.segments')
    const bytes = readFileSync(file)
    // The third segment goes on from segment 0, as the fifth does now.
    bytes.writeUInt32LE(0, 12 * 4 + 8)
    writeFileSync(file, bytes)
    await expect(sampleByNumber(broken, 'train', 0)).rejects.toMatchObject({
      code: 'invalid_request',
      message: 'example 0 of the shards: segment 4: branch 0 goes on twice',
    })
  })
})

describe('refused conversations', () => {
  it('are found by rule and by id', async () => {
    expect(await refusedBy(build, 'list_numbering', 1, false)).toMatchObject({
      count: 2,
      records: [{ id: 'bad-list', line: 7 }],
    })
    expect((await refusedBy(build, 'list_numbering', 5, false)).records).toHaveLength(2)
    expect((await refusedBy(build, 'list_numbering', 1, true)).records).toHaveLength(1)
    expect(await refusedBy(build, 'cjk', 5, false)).toEqual({ count: 0, records: [] })
    expect(await refusalOf(build, 'empty')).toMatchObject({ rule: 'empty_answer' })
    expect(await refusalOf(build, 'fruit')).toBeUndefined()
  })
})
