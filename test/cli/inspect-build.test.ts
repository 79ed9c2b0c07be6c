import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { requires } from '../support/requires.ts'
import { tinyBuild } from '../support/tiny-build.ts'

const APAR = 'dist/apar.js'

/** Standard output, or the lines of standard error of a command that failed. */
async function data(...args: string[]): Promise<string> {
  const env = { ...process.env, FORCE_COLOR: '' }
  const run = promisify(execFile)(process.execPath, [APAR, 'data', ...args], { env })
  return run.then(
    ({ stdout }) => stdout,
    ({ stderr }: { stderr: string }) => stderr.trim(),
  )
}

describe.skipIf(!requires('dist/apar.js (npm run setup)', () => existsSync(APAR)))('apar data', () => {
  const build = tinyBuild()

  it('inspect shows the first example, or the one that is named', async () => {
    const first = await data('inspect', build)
    expect(first).toMatch(/^example 0 of train\n/)
    expect(first).toContain(
      '│ 1. Apples:[Fork]→1\n│ ╭ branch 1 · depth 2 · 12 tokens\n│ │ [Child] they are red',
    )
    expect(await data('inspect', build, 'three')).toMatch(
      /^three\nkind +list\nexample +0 of test, from record 2 /,
    )
    expect(await data('inspect', build, '--number', '2')).toMatch(/^example 2 of train\nkind +unstructured\n/)
    expect(await data('inspect', build, '--random', '--split', 'test')).toMatch(/^example 0 of test\n/)
    expect(await data('inspect', build, '--kind', 'unstructured', '--tokens')).toMatch(
      /^why\n(.*\n)*│ "S(o" |" \d+ {2}"o" )\d+/,
    )
  })

  it('inspect says what was left out, and where', async () => {
    expect(await data('inspect', build, '--refused', 'list_numbering')).toBe(
      [
        'list_numbering: list numbers that are not consecutive',
        'left out: 2',
        '',
        'id          where       reason',
        'bad-list    in.jsonl:7',
        'bad-list-2  in.jsonl:9',
        '',
      ].join('\n'),
    )
    expect(await data('inspect', build, '--refused', 'cjk')).toMatch(/^cjk: Chinese.*\nleft out: 0\n$/)
    expect(await data('inspect', build, 'empty')).toBe(
      'apar: "empty" was left out: template: the template says no (in.jsonl:8) (invalid_option)',
    )
    expect(await data('inspect', build, 'nobody')).toMatch(
      /^apar: .* has no conversation "nobody" \(invalid_option\)$/,
    )
    expect(await data('inspect', build, '--refused', 'x')).toMatch(
      /^apar: there is no rule "x"; rules: .*list_numbering/,
    )
    expect(await data('inspect', build, 'fruit', '--number', '1')).toMatch(/^apar: give one of ID, /)
    expect(await data('inspect', build, 'fruit', '--split', 'test')).toMatch(/^apar: --split is for --number/)
    expect(await data('inspect', build, '--html', 'x', '--tokens')).toMatch(/^apar: --tokens is for trees/)
    expect(await data('inspect', '/nowhere')).toMatch(
      /^apar: \/nowhere is no build: apar data build makes one/,
    )
  })

  it('inspect writes a page', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'apar-page-')), 'fruit.html')
    expect(await data('inspect', build, 'fruit', '--html', file)).toBe(`${file}\n`)
    const page = readFileSync(file, 'utf8')
    expect(page).toMatch(/^<!doctype html>/)
    expect(page).toContain('"shown":"[Fork]"')
    expect(page.match(/(src|href)=/g)).toBeNull()
  })

  it('stats prints tables or one JSON object, and writes plots', async () => {
    expect(await data('stats', build)).toMatch(/^conversations\nin the input +6\n/)
    const out = mkdtempSync(join(tmpdir(), 'apar-plots-'))
    const json = JSON.parse(await data('stats', build, '--json', '--out', out))
    expect(json).toMatchObject({
      report: { conversations: 6 },
      shards: { train: { examples: { structured: 1 } } },
    })
    const names = [
      'branch-depth',
      'example-tokens',
      'forks-per-answer',
      'path-tokens',
      'rules',
      'segment-tokens',
    ]
    expect(readdirSync(out).sort()).toEqual(names.flatMap((name) => [`${name}.png`, `${name}.svg`]))
    expect(readFileSync(join(out, 'rules.svg'), 'utf8')).toContain('list_numbering')
  })
})
