import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { Conversation } from '../../training/data/conversation.ts'
import { extractConversation } from '../../training/data/extract/extract.ts'
import { seededRandom } from '../../training/data/random.ts'
import { underInventedName } from '../../training/data/sources/invented-names.ts'
import { tldrConversations } from '../../training/data/sources/tldr.ts'
import { lowerFirst, readPage } from '../../training/data/sources/tldr-answers.ts'
import { readCommand, readDescription, readTitle } from '../../training/data/sources/tldr-markup.ts'

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), 'apar-test-')), name)
  await writeFile(path, content)
  return path
}

async function all(source: AsyncIterable<Conversation>): Promise<Conversation[]> {
  const found: Conversation[] = []
  for await (const conversation of source) found.push(conversation)
  return found
}

const page = (name: string, uses: number) => ({
  path: `pages/common/${name}.md`,
  title: name,
  description: `Does what ${name} does. More information: <https://example.com>.`,
  items: Array.from({ length: uses }, (_, i) => ({
    what: `[u]se number ${i + 1} of the tool and write it to a file`,
    cmd: `${name} {{[-u|--use]}} ${i + 1} {{path/to/file}}`,
  })),
})

describe('tldr markup', () => {
  it.each([
    ['tar {{[-c|--create]}} {{path/to/file}}', 'tar --create path/to/file'],
    ['ls {{path/to/file1 path/to/file2 ...}}', 'ls path/to/file1 path/to/file2 ...'],
    ['mkfs.{{ext4|btrfs}} {{/dev/sdX}}', 'mkfs.ext4 /dev/sdX'],
    ['tar xf {{path/to/a.tar[.gz|.xz]}}', 'tar xf path/to/a.tar.gz'],
    ['curl {{https://example.com}}', 'curl example.com'],
  ])('%s', (source, text) => {
    expect(readCommand(source)?.text).toBe(text)
  })

  it('keeps the information of the markup', () => {
    expect(readCommand('x {{[-a|--all]}} {{one|two}} {{path/to/file}} {{"Hello World"}}')).toEqual({
      text: 'x --all one path/to/file "Hello World"',
      shortcuts: [{ short: '-a', long: '--all' }],
      choices: [{ chosen: 'one', others: ['two'] }],
      placeholders: ['path/to/file'],
    })
  })

  it('refuses escaped and nested braces', () => {
    expect(readCommand('echo \\{\\{x\\}\\}')).toBeUndefined()
    expect(readCommand('dot {{digraph {a {{b}} }}')).toBeUndefined()
  })

  it('reads titles', () => {
    expect(readTitle('E[x]tract a (compressed) archive [f]ile (quickly)')).toEqual({
      text: 'Extract a compressed archive file',
      letters: [
        { letter: 'x', word: 'extract' },
        { letter: 'f', word: 'file' },
      ],
      remarks: ['quickly'],
    })
  })

  it('reads descriptions without their links', () => {
    expect(readDescription('Archiving utility. See also: `zip`. More information: <https://x.org>.')).toBe(
      'Archiving utility.',
    )
    expect(lowerFirst('List files')).toBe('list files')
    expect(lowerFirst('GNU tar')).toBe('GNU tar')
  })
})

describe('tldr pages', () => {
  it('creates short titles, and details that do not depend on other items', () => {
    const { uses } = readPage(page('foo', 3))
    expect(uses[0]).toEqual({
      title: 'Use number 1',
      purpose: 'Use number 1 of the tool and write it to a file',
      detail:
        'To use number 1 of the tool and write it to a file, run `foo --use 1 path/to/file`. Here u stands for use. ' +
        'Also -u is short for --use. Put your own value in place of path/to/file.',
    })
  })

  it('leaves out items that the rules would refuse', () => {
    const { uses } = readPage({
      ...page('foo', 1),
      items: [
        { what: 'Set a variable', cmd: 'foo a=b' },
        { what: 'Redirect the output', cmd: 'foo > {{file}}' },
        { what: 'Do it properly', cmd: 'foo' },
      ],
    })
    expect(uses.map((use) => use.title)).toEqual(['Do it properly'])
  })

  it('creates lists that the rules accept, and answers without structure', async () => {
    const lines = [page('foo', 4), page('bar', 5), page('few', 2)].map((p) => JSON.stringify(p))
    const path = await file('pages.jsonl.gz', gzipSync(lines.join('\n')))
    const conversations = await all(tldrConversations(path))
    expect(new Set(conversations.map((c) => c.group))).toEqual(new Set(['common/foo', 'common/bar']))
    const kinds = conversations.map((c) => [c.dialogs[0]?.prompt, extractConversation(c)] as const)
    const [, list] = kinds.find(([prompt]) => prompt === 'How do I use foo?') ?? []
    expect(list).toMatchObject({ structure: { kind: 'list' } })
    const [, plain] = kinds.find(([prompt]) => prompt === 'What is foo?') ?? []
    expect(plain).toEqual({ rule: 'no_structure', keep: true })
    expect(await all(tldrConversations(path))).toEqual(conversations)
    expect(new Set((await all(tldrConversations(path, { pages: 1 }))).map((c) => c.group)).size).toBe(1)
  })

  it('renames a command wherever it is mentioned', () => {
    const git = {
      path: 'pages/common/git-push.md',
      title: 'git push',
      description: 'Push commits with git.',
      items: [{ what: 'Push with git push', cmd: 'git push {{my-git}} && git status # push' }],
    }
    const renamed = underInventedName(git, seededRandom(1))
    const [command, subcommand] = renamed.title.split(' ')
    expect([command, subcommand]).not.toContain('git')
    expect(renamed).toEqual({
      path: git.path,
      title: `${command} ${subcommand}`,
      description: `Push commits with ${command}.`,
      items: [
        {
          what: `Push with ${command} ${subcommand}`,
          cmd: `${command} ${subcommand} {{my-git}} && ${command} status # push`,
        },
      ],
    })
    expect(underInventedName(git, seededRandom(1))).toEqual(renamed)
  })

  it('puts copies with invented names in the group of their page', async () => {
    const path = await file('pages.jsonl', JSON.stringify(page('foo', 4)))
    const plain = await all(tldrConversations(path))
    const copied = await all(tldrConversations(path, { inventedNames: 2 }))
    expect(copied.slice(0, plain.length)).toEqual(plain)
    expect(new Set(copied.map((c) => c.group))).toEqual(new Set(['common/foo']))
    expect(new Set(copied.map((c) => c.id)).size).toBe(copied.length)
    const asked = copied.slice(plain.length).map((c) => c.dialogs[0])
    expect(asked.length).toBeGreaterThanOrEqual(2 * (plain.length - 1))
    for (const turn of asked) expect(`${turn?.prompt}${turn?.response}`).not.toMatch(/\bfoo\b/)
  })
})
