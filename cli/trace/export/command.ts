import { once } from 'node:events'
import { createWriteStream, renameSync, statSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { UserError } from '../../explain.ts'
import { type JsonFlag, print, withJson } from '../../json.ts'
import { counting } from '../../progress.ts'
import { readSettings, readTraces, traceFiles } from '../run-folder.ts'
import { MODES, type Mode } from '../trace-file.ts'
import { toReference } from './reference.ts'

interface Flags extends JsonFlag {
  format: 'reference'
  mode: Mode
  out: string
}

/** Adds `apar trace export`. */
export function registerExport(trace: Command): void {
  withJson(trace.command('export'))
    .description('traces for other programs: one JSON array, as get_trace.py of the reference writes it')
    .argument('<folder>', 'of apar trace')
    .addOption(new Option('--format <format>').choices(['reference']).makeOptionMandatory())
    .addOption(new Option('--mode <mode>').choices(MODES).default('parallel'))
    .requiredOption('--out <file>', 'where to write it, for example vicuna_bench.json')
    .action(exportTraces)
}

async function exportTraces(folder: string, flags: Flags): Promise<void> {
  const { mode, out } = flags
  readSettings(folder)
  const { length } = traceFiles(folder, [mode])
  if (length === 0) throw new UserError('invalid_option', `${folder}: has no ${mode} traces yet`)
  // A pipe or a device is written to; a file of its name must not take its place.
  const special = statSync(out, { throwIfNoEntry: false })?.isFile() === false
  const aside = special ? out : `${out}.partial`
  const file = createWriteStream(aside)
  // Without a listener, a full disk would end the process with a stack.
  const failed = once(file, 'error').then(([error]) => Promise.reject(error))
  const write = async () => {
    let between = '['
    // One at a time: a trace of the reference is as large as the square of its answer.
    for (const trace of counting('writing traces', readTraces(folder, [mode]))) {
      if (!file.write(`${between}\n${JSON.stringify(toReference(trace))}`)) await once(file, 'drain')
      between = ','
    }
    file.end('\n]\n')
    await once(file, 'close')
  }
  await Promise.race([write(), failed])
  if (!special) renameSync(aside, out)
  print(flags, { out, mode, traces: length }, () => `${length} ${mode} traces → ${out}`)
}
