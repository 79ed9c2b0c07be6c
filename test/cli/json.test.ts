import { describe, expect, test } from 'vitest'
import { createProgram } from '../../cli/program.ts'
import { commandName, runnable } from '../../cli/settings/command-name.ts'

/** Their output is for programs as it is; docs/terminal.md names them. */
const WITHOUT = ['feedback export', 'train evaluate', 'gpu-node']

const program = await createProgram()
// `apar trace` does something itself, beside having commands.
const commands = [...runnable(program)].filter(
  (command) =>
    !/^(complet|help)/.test(command.name()) && (command.commands.length === 0 || command.name() === 'trace'),
)

describe('--json', () => {
  test.each(commands.map((command) => [commandName(command), command] as const))(
    'of apar %s',
    (name, command) => {
      const json = command.options.find(({ long }) => long === '--json')
      expect(json !== undefined).toBe(!WITHOUT.includes(name))
      if (json) expect(json.description).toMatch(/\bas JSON\b/)
    },
  )
})
