import { closeSync, openSync, writeSync } from 'node:fs'
import { explain, UserError } from '../../../explain.ts'
import { VERSION } from '../report/publish.ts'
import type { Output } from './output.ts'

/** A file of JSON lines (docs/evaluation.md): what `apar bench report` and `apar bench judge` read. */
export function jsonLines(path: string): Output {
  const file = openSync(path, 'w')
  let failure: unknown
  // A full disk costs the file, not the measurement.
  const write = (line: object) => {
    if (failure !== undefined) return
    try {
      writeSync(file, `${JSON.stringify(line)}\n`)
    } catch (error) {
      failure = error
    }
  }
  return {
    run: (settings) => write({ type: 'run', version: VERSION, ...settings }),
    sample: (cell, round, sample) => write({ type: 'request', ...cell, round, ...sample }),
    round: (cell, round, { readings }) => {
      for (const reading of readings) write({ type: 'node', ...cell, round, ...reading })
    },
    summary: (summary) => write({ type: 'summary', ...summary }),
    close: () => {
      closeSync(file)
      if (failure !== undefined)
        throw new UserError('out_incomplete', `${path} ends early: ${explain(failure)}`)
    },
  }
}
