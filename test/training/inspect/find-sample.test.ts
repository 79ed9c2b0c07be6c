import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { documentText } from '../../../shared/token-tree.ts'
import {
  leftOutBy,
  refusalOf,
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

  it('by id is found in the shards of its split, serial copies left out', async () => {
    const sample = await sampleById(build, 'fruit')
    expect(sample).toMatchObject({
      record: { id: 'fruit', kind: 'list' },
      example: { number: 0, kind: 'structured' },
    })
    expect(sample && shown(sample)).toEqual(LIST)
    expect(await sampleById(build, 'three')).toMatchObject({
      split: 'test',
      example: { number: 0, source: 2 },
    })
    expect(await sampleById(build, 'why')).toMatchObject({ example: { number: 2, kind: 'unstructured' } })
    expect(await sampleById(build, 'fru')).toBeUndefined()
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
    await expect(sampleById(broken, 'x')).rejects.toThrow(/examples\.jsonl:4: split: /)
  })

  it('is not shown when examples.jsonl is of another build', async () => {
    const other = tinyBuild()
    const more = { id: 'more', kind: 'unstructured', split: 'train' }
    appendFileSync(join(other, 'examples.jsonl'), `${JSON.stringify(more)}\n`)
    const refusal = /the shards in train do not belong to examples\.jsonl: "more" is not there/
    await expect(sampleById(other, 'more')).rejects.toThrow(refusal)
    writeFileSync(join(other, 'examples.jsonl'), `${JSON.stringify(more)}\n`)
    await expect(sampleById(other, 'more')).rejects.toThrow(refusal)
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
  it('are found by rule and by id, with their place', async () => {
    expect(await leftOutBy(build, 'list_numbering', 1, false)).toMatchObject({
      count: 2,
      records: [{ id: 'bad-list', line: 7 }],
    })
    expect((await leftOutBy(build, 'list_numbering', 5, false)).records).toHaveLength(2)
    expect((await leftOutBy(build, 'list_numbering', 1, true)).records).toHaveLength(1)
    expect(await leftOutBy(build, 'no_structure', 5, false)).toEqual({ count: 0, records: [] })
    expect(await refusalOf(build, 'empty')).toMatchObject({ rule: 'template', file: 'in.jsonl', line: 8 })
    expect(await refusalOf(build, 'fruit')).toBeUndefined()
  })
})
