import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { packageRoot } from '../gpu-node/package-root.ts'

const MAX_COLUMNS = 120

/** Generated pages and records of earlier releases and measurements. */
const NOT_CHECKED = /^(docs\/results\/|CHANGELOG\.md$)/

interface Line {
  readonly number: number
  readonly text: string
  readonly isCode: boolean
}

/** A Markdown file of the repository. */
interface Page {
  readonly file: string
  readonly lines: readonly Line[]
}

function pageOf(file: string, markdown: string): Page {
  let fence: string | undefined
  const lines = markdown.split('\n').map((text, index) => {
    const mark = /^\s*(`{3,}|~{3,})/.exec(text)?.[1]
    const isCode = fence !== undefined || mark !== undefined
    if (fence === undefined) fence = mark
    else if (mark?.startsWith(fence)) fence = undefined
    return { number: index + 1, text, isCode }
  })
  return { file, lines }
}

function readPage(file: string): Page {
  return pageOf(file, readFileSync(join(packageRoot, file), 'utf8'))
}

/** Lines of prose that are too long. Tables, code, headings and link definitions may be longer: they cannot be wrapped. */
function longLines({ file, lines }: Page): string[] {
  return lines
    .filter(({ text, isCode }) => !isCode && !/^(\s*\||#|\[[^\]]+\]:)/.test(text))
    .filter(({ text }) => [...text].length > MAX_COLUMNS)
    .map(({ number, text }) => `${file}:${number} has ${[...text].length} characters`)
}

/** Inline code contains no links. */
const withoutCode = (text: string) => text.replace(/`[^`]*`/g, '')

/** Targets of inline links, images and link definitions. */
function linksOf({ lines }: Page): { readonly number: number; readonly target: string }[] {
  return lines
    .filter(({ isCode }) => !isCode)
    .flatMap(({ number, text }) =>
      [...withoutCode(text).matchAll(/\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)/g)].map(
        ([, inline, defined]) => ({
          number,
          target: inline ?? defined ?? '',
        }),
      ),
    )
}

/** The anchors that GitHub generates for the headings of a page. */
function anchorsOf({ lines }: Page): Set<string> {
  const anchors = new Set<string>()
  for (const { text, isCode } of lines) {
    const heading = isCode ? undefined : /^#{1,6}\s+(.*?)\s*#*$/.exec(text)?.[1]
    if (heading === undefined) continue
    const slug = slugOf(heading)
    let anchor = slug
    for (let count = 1; anchors.has(anchor); count++) anchor = `${slug}-${count}`
    anchors.add(anchor)
  }
  return anchors
}

function slugOf(heading: string): string {
  const shown = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
  return shown
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-')
}

/** Relative links to files or headings that do not exist. Paths are relative to the root of the repository. */
function brokenLinks(
  page: Page,
  exists: (path: string) => boolean,
  pageAt: (path: string) => Page,
): string[] {
  return linksOf(page).flatMap(({ number, target }) => {
    if (/^[a-z][a-z+.-]*:/i.test(target)) return []
    const [path = '', anchor] = target.split('#').map(decodeURIComponent)
    const where = `${page.file}:${number} links to ${target}`
    const file = path === '' ? page.file : join(dirname(page.file), path).replaceAll('\\', '/')
    if (!exists(file)) return [`${where}, which does not exist`]
    if (anchor === undefined || !file.endsWith('.md')) return []
    return anchorsOf(pageAt(file)).has(anchor) ? [] : [`${where}, but there is no such heading`]
  })
}

const tracked = execFileSync('git', ['ls-files', '-z', '--', '*.md'], { cwd: packageRoot, encoding: 'utf8' })
const files = tracked.split('\0').filter((file) => file !== '' && !NOT_CHECKED.test(file))

test('the Markdown files of the repository are found', () => {
  expect(files).toEqual(expect.arrayContaining(['README.md', 'docs/protocol.md', 'native/README.md']))
})

test.each(files)('%s wraps its prose at 120 columns', (file) => {
  expect(longLines(readPage(file))).toEqual([])
})

test.each(files)('%s has no broken links', (file) => {
  const exists = (path: string) => existsSync(join(packageRoot, path))
  expect(brokenLinks(readPage(file), exists, readPage)).toEqual([])
})

describe('the checks themselves', () => {
  const long = 'word '.repeat(30)

  test('only prose has to be wrapped', () => {
    const page = pageOf(
      'a.md',
      ['```', long, '```', `| ${long} |`, `# ${long}`, `[x]: ${long}`, long].join('\n'),
    )
    expect(longLines(page)).toEqual(['a.md:7 has 150 characters'])
  })

  test('a link needs its file and its heading', () => {
    const page = pageOf(
      'docs/a.md',
      [
        '## `Flow` control, and more',
        '[same](#flow-control-and-more) [none](#flow) [there](b.md#b) [no file](c.md)',
        '[folder](../edge/) [web](https://example.com/x#y) `[code](d.md)`',
        '```',
        '[in a block](e.md)',
        '```',
      ].join('\n'),
    )
    const exists = (path: string) => ['docs/a.md', 'docs/b.md', 'edge/'].includes(path)
    expect(brokenLinks(page, exists, (path) => (path === page.file ? page : pageOf(path, '# B')))).toEqual([
      'docs/a.md:2 links to #flow, but there is no such heading',
      'docs/a.md:2 links to c.md, which does not exist',
    ])
  })

  test('equal headings are numbered', () => {
    expect([...anchorsOf(pageOf('a.md', '# Limits\n## Limits\n'))]).toEqual(['limits', 'limits-1'])
  })
})
