import type { Command } from 'commander'

/** The flag that {@link withJson} adds. */
export interface JsonFlag {
  json?: true
}

/**
 * Adds `--json`, for programs: the result is one JSON value on a line of standard output, and nothing else is there.
 * `when`: with which other option, where it is not for all uses of the command.
 */
export function withJson(command: Command, when = ''): Command {
  return command.option('--json', `${when === '' ? '' : `${when}: `}prints the result as JSON, in one line`)
}

/** Prints the value as JSON where `json` is set, else what `text` returns. */
export function print({ json }: JsonFlag, value: unknown, text: () => string): void {
  console.log(json ? JSON.stringify(value) : text())
}
