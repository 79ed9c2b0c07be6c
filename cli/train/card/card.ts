import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { UserError } from '../../explain.ts'
import { knownModels } from '../../models/known.ts'
import { type Invocation, readInvocations } from '../invocations.ts'
import { readRunLog } from '../run-log.ts'
import { cardText } from './card-text.ts'
import { MARK } from './front-matter.ts'

const CARD = 'README.md'

/**
 * Writes the model card of a run into the folder that it made, as the hub shows it. @returns its path
 * @throws UserError for a folder that is no run, or has a README.md that was written by hand
 */
export function writeCard(runFolder: string, { license }: { license?: string } = {}): string {
  const run = resolve(runFolder)
  const invocations = readInvocations(run)
  const last = invocations.at(-1)
  if (!last) {
    throw new UserError(
      'invalid_option',
      `${run} is no --run of apar train sft or medusa: it has no invocations.jsonl`,
    )
  }
  const path = join(last.out, CARD)
  if (existsSync(path) && !readFileSync(path, 'utf8').includes(MARK)) {
    throw new UserError(
      'invalid_option',
      `${path} was written by hand: move it to get a card made from the run`,
    )
  }
  const text = cardText({
    name: basename(last.out),
    license: license ?? licenseOf(last),
    invocations,
    log: readRunLog(run),
    report: readReport(last.data),
  })
  writeFileSync(`${path}.part`, text)
  renameSync(`${path}.part`, path)
  return path
}

/** As known.json or the base's own card say it, in the hub's spelling. */
function licenseOf({ model, modelPath }: Invocation): string | undefined {
  const known = knownModels().get(model)?.license
  if (known !== undefined) return /^[\w.-]+/.exec(known)?.[0].toLowerCase()
  const card = join(modelPath, CARD)
  if (!existsSync(card)) return undefined
  const [, front = ''] = /^---\n([\s\S]*?)\n---/.exec(readFileSync(card, 'utf8')) ?? []
  return /^license:\s*([\w.-]+)\s*$/m.exec(front)?.[1]
}

/** What apar data build counted; undefined for data that have no report. */
function readReport(data: string): unknown {
  const file = join(data, 'report.json')
  if (!existsSync(file)) return undefined
  return JSON.parse(readFileSync(file, 'utf8'))
}
