import { writeFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { UserError } from '../../explain.ts'
import { type JsonFlag, print, withJson } from '../../json.ts'
import { decimal } from '../../options.ts'
import { MODES, type Mode } from '../trace-file.ts'
import { findTrace } from './find-trace.ts'
import { tracePage } from './html.ts'
import { replayInTerminal } from './terminal.ts'

interface Flags extends JsonFlag {
  in: string
  mode?: Mode
  html?: string
  speed: number
}

/** Adds `apar trace show`. */
export function registerShow(trace: Command): void {
  withJson(trace.command('show'))
    .description('replays the answers to a question in the terminal, or writes a page in which they grow')
    .argument('<id>', 'of a question, or the file of a trace')
    .option('--in <folder>', 'of apar trace, or one with such folders', 'traces')
    .addOption(new Option('--mode <mode>', 'default: all that there are').choices(MODES))
    .option('--html <file>', 'write one HTML file, which needs no server, instead')
    .option('--speed <factor>', 'of the replay; 1 is as fast as the answer was made', decimal(0.01, 1000), 1)
    .action(show)
}

async function show(id: string, flags: Flags): Promise<void> {
  const { in: folder, mode, html, speed } = flags
  const traces = findTrace(id, folder).filter(({ head }) => mode === undefined || head.mode === mode)
  if (traces.length === 0) throw new UserError('invalid_option', `${id}: there is no ${mode} trace of it`)
  if (html !== undefined) {
    writeFileSync(html, tracePage(traces))
    print(flags, { html }, () => `the answers to ${id} → ${html}`)
    return
  }
  if (flags.json) return console.log(JSON.stringify(traces))
  const cancel = new AbortController()
  process.once('SIGINT', () => cancel.abort())
  const { stdout } = process
  const options = { speed: stdout.isTTY ? speed : undefined, signal: cancel.signal }
  for (const each of traces) if (!cancel.signal.aborted) await replayInTerminal(each, stdout, options)
}
