import type { Command } from 'commander'

/** The name of a command below the program: `serve`, `train sft`. Empty for the program itself. */
export function commandName(command: Command): string {
  const above = command.parent
  if (!above) return ''
  return `${commandName(above)} ${command.name()}`.trim()
}

/** All commands below this one that run something. */
export function* runnable(command: Command): Generator<Command> {
  for (const below of command.commands) {
    yield below
    yield* runnable(below)
  }
}
