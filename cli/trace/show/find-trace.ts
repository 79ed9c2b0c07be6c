import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { UserError } from '../../explain.ts'
import { traceName } from '../run-folder.ts'
import { MODES, readTrace, type TraceOfQuestion } from '../trace-file.ts'

/**
 * The traces of a question in all modes: by the path of one of its files, or by its id in a folder of `apar trace` or in
 * those within it.
 * @throws UserError `invalid_option` when there is none, or when several folders have one.
 */
export function findTrace(id: string, folder: string): TraceOfQuestion[] {
  if (id.endsWith('.jsonl.gz') && existsSync(id)) return readAll(dirname(id), readTrace(id).head.id)
  if (!existsSync(folder)) throw new UserError('invalid_option', `--in: there is no folder ${folder}`)
  const within = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  const folders = [folder, ...within.map(({ name }) => join(folder, name))]
  const having = folders.filter((each) => MODES.some((mode) => existsSync(join(each, traceName(id, mode)))))
  const [only, ...others] = having
  if (only === undefined)
    throw new UserError('invalid_option', `${id}: no trace of it in ${folders.join(', ')}`)
  if (others.length > 0) {
    const names = having.map((each) => basename(each)).join(', ')
    throw new UserError('invalid_option', `${id}: ${names} have a trace of it: choose one by --in`)
  }
  return readAll(only, id)
}

function readAll(folder: string, id: string): TraceOfQuestion[] {
  return MODES.map((mode) => join(folder, traceName(id, mode)))
    .filter((path) => existsSync(path))
    .map(readTrace)
}
