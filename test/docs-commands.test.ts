import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { expect, test } from 'vitest'
import { createProgram } from '../cli/program.ts'
import { packageRoot } from '../gpu-node/package-root.ts'

/** A command in a line of a shell, behind variables; what follows a comment, a pipe or a redirection is not its own. */
const COMMAND = /^(?:[A-Z_]+=\S+ )*(?:npx apar|node dist\/apar\.js|apar) (.*?)(?:\s+#.*|\s+[|>&<].*)?$/

/** The lines of the pages' shell blocks that call apar, as words. */
function commandsIn(text: string): string[][] {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, block = '']) =>
    block.replaceAll('\\\n', ' '),
  )
  return blocks
    .flatMap((block) => block.split('\n'))
    .flatMap((line) => COMMAND.exec(line)?.[1] ?? [])
    .map((rest) => rest.match(/"[^"]*"|'[^']*'|\S+/g) ?? [])
}

/** Options that the command does not know, and names of commands that there are not. */
function unknownIn(program: Command, words: readonly string[]): string[] {
  const [name, ...rest] = words
  const command = program.commands.find((each) => each.name() === name)
  if (command) return unknownIn(command, rest)
  if (
    program.commands.length > 0 &&
    name !== undefined &&
    !name.startsWith('-') &&
    program.registeredArguments.length === 0
  )
    return [name]
  const known = program.options.flatMap(({ long, short, negate }) => [long, short, negate ? long : undefined])
  return words
    .filter((word) => word.startsWith('-') && !['--help', '-h'].includes(word))
    .filter((word) => !known.includes(word.replace(/=.*/, '')))
}

const pages = execFileSync('git', ['ls-files', '-z', '--', '*.md'], { cwd: packageRoot, encoding: 'utf8' })
  .split('\0')
  .filter((file) => file !== '' && !/^docs\/(results|adr)\/|^CHANGELOG/.test(file))
const cases = pages.flatMap((file) =>
  commandsIn(readFileSync(join(packageRoot, file), 'utf8')).map(
    (words) => [file, words.join(' '), words] as const,
  ),
)
const program = await createProgram()

test('the pages have commands', () => {
  expect(cases.length).toBeGreaterThan(30)
  expect(commandsIn('```sh\nA=b apar serve \\\n  --model x  # c\napar data | less\n```')).toEqual([
    ['serve', '--model', 'x'],
    ['data'],
  ])
  expect(unknownIn(program, ['serve', '--nonsense', '1'])).toEqual(['--nonsense'])
  expect(unknownIn(program, ['model', 'nonsense'])).toEqual(['nonsense'])
})

test.each(cases)('%s: apar %s', (_, __, words) => {
  const separator = words.indexOf('--')
  const own = separator < 0 ? words : words.slice(0, separator)
  // Behind it are options of a gpu node that the command starts.
  const ofNode = separator < 0 ? [] : ['gpu-node', ...words.slice(separator + 1)]
  expect(unknownIn(program, own)).toEqual([])
  expect(unknownIn(program, ofNode)).toEqual([])
})
