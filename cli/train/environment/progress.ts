import { spinner } from '@clack/prompts'

/** Where the making of an environment is; on the error output, a spinner on a terminal and lines elsewhere. */
export interface EnvironmentProgress {
  start(text: string): void
  /** `isLong`: what takes a while from here on, worth a line of its own. */
  update(text: string, isLong: boolean): void
  done(text: string): void
  failed(): void
}

export function showEnvironmentProgress(): EnvironmentProgress {
  return process.stderr.isTTY && process.stderr.columns > 0
    ? onTerminal()
    : inLines((line) => console.error(line))
}

export function inLines(write: (line: string) => void): EnvironmentProgress {
  return {
    start: write,
    update: (text, isLong) => isLong && write(`  ${text}`),
    done: write,
    failed: () => {},
  }
}

function onTerminal(): EnvironmentProgress {
  const shown = spinner({ output: process.stderr })
  // The library ends the process at Ctrl-C as if all were well.
  const interrupted = () => {
    process.exitCode ||= 130
  }
  return {
    start: (text) => {
      process.once('exit', interrupted)
      shown.start(text)
    },
    update: (text) => shown.message(text.slice(0, process.stderr.columns - 8)),
    done: (text) => {
      process.off('exit', interrupted)
      shown.stop(text)
    },
    failed: () => {
      process.off('exit', interrupted)
      shown.error('stopped')
    },
  }
}
