import { closeSync, openSync, writeSync } from 'node:fs'
import { VERSION } from '../report/publish.ts'
import type { Output } from './output.ts'

/** A file of JSON lines (docs/evaluation.md): what `apar bench report` and `apar bench judge` read. */
export function jsonLines(path: string): Output {
  const file = openSync(path, 'w')
  const write = (line: object) => writeSync(file, `${JSON.stringify(line)}\n`)
  return {
    run: (settings) => write({ type: 'run', version: VERSION, ...settings }),
    sample: (cell, round, sample) => write({ type: 'request', ...cell, round, ...sample }),
    round: (cell, round, { readings }) => {
      for (const reading of readings) write({ type: 'node', ...cell, round, ...reading })
    },
    summary: (summary) => write({ type: 'summary', ...summary }),
    close: () => closeSync(file),
  }
}
