import { describe, expect, test } from 'vitest'
import { createProgram } from '../../cli/program.ts'
import { commandName, runnable } from '../../cli/settings/command-name.ts'

const program = await createProgram()
const commands = [...runnable(program)].filter(
  (command) => command.commands.length === 0 && !/^(complete|help)$/.test(command.name()),
)

function helpOf(command: (typeof commands)[number]): string {
  let help = ''
  command.configureOutput({ writeOut: (text) => (help += text) })
  command.outputHelp()
  return help
}

describe('the help of', () => {
  test.each(commands.map((command) => [commandName(command), command] as const))(
    '%s has examples',
    (name, command) => {
      const [, examples = ''] = helpOf(command).split('Examples:\n')
      const lines = examples.trim().split('\n')
      expect(lines.length).toBeGreaterThan(0)
      for (const line of lines) {
        expect(line).toContain(`apar ${name}`)
        // All options that it names are options of the command.
        const known = command.options.map(({ long }) => long)
        // Those that it needs are there.
        for (const { long } of command.options.filter(({ mandatory }) => mandatory))
          expect(line).toContain(long)
        for (const [option] of line.replace(/^.*?apar /, '').matchAll(/(?<= )--[a-z-]+/g))
          expect(known).toContain(option)
      }
    },
  )

  test('a command that has others below it shows an example of each', () => {
    const above = [...runnable(program)].filter((command) => command.commands.length > 0)
    expect(above.map((command) => command.name())).toContain('keys')
    for (const command of above) {
      const examples = helpOf(command).split('Examples:\n')[1] ?? ''
      if (commandName(command) === 'trace') continue
      for (const below of command.commands.filter((one) => one.name() !== 'help'))
        expect(examples).toContain(`apar ${commandName(below)}`)
    }
  })

  test('a command names no variable that follows from its name', () => {
    const [serve] = commands.filter((command) => command.name() === 'serve')
    expect(serve && helpOf(serve)).not.toContain('APAR_SERVE')
  })

  test('one command alone is the same as beside the others', async () => {
    const [serve] = commands.filter((command) => command.name() === 'serve')
    const alone = await createProgram('serve')
    expect(alone.commands.map((command) => command.name())).toEqual(['serve'])
    expect(alone.commands[0] && helpOf(alone.commands[0])).toBe(serve && helpOf(serve))
  })

  test('the program says how options are set', () => {
    let help = ''
    program.configureOutput({ writeOut: (text) => (help += text) })
    program.outputHelp()
    expect(help).toContain('APAR_SERVE_PORT')
  })
})
