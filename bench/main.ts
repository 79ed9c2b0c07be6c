import { agreement } from './agreement.ts'
import { apar } from './apar.ts'
import { data } from './data.ts'
import { edge, edgeFirst, edgeStreams } from './edge.ts'
import { engine } from './engine.ts'
import { hostile } from './hostile.ts'
import { load } from './load.ts'
import { plot } from './plot.ts'
import { prefix } from './prefix.ts'
import type { Bench, BenchOptions } from './report.ts'

const BENCHES: Record<string, Bench> = {
  agreement,
  apar,
  data,
  edge,
  'edge-first': edgeFirst,
  'edge-streams': edgeStreams,
  engine,
  hostile,
  load,
  prefix,
}
const USAGE = `usage: bench <${Object.keys(BENCHES).join('|')}> [--quick] [--json], or: bench plot SAMPLES`

/**
 * `bench <name> [--quick] [--json]`: prints progress to standard error; with --json the last line of standard
 * output is the result.
 */
async function main(args: string[]): Promise<number> {
  const [name = '', file] = args.filter((arg) => !arg.startsWith('--'))
  const unknown = args.find((arg) => arg.startsWith('--') && arg !== '--quick' && arg !== '--json')
  if (name === 'plot' && file !== undefined && args.length === 2) {
    plot(file)
    return 0
  }
  const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
  if (!bench || unknown) {
    const reason = unknown ? `unknown option ${unknown}` : `no benchmark named ${JSON.stringify(name)}`
    console.error(`bench: ${reason}; ${USAGE}`)
    return 1
  }
  const options: BenchOptions = { quick: args.includes('--quick') }
  const result = await bench(options)
  if (args.includes('--json')) console.log(JSON.stringify(result))
  else
    console.table(
      result.cases.map(({ case: name, value, unit, goal }) => ({ case: name, value, unit, goal })),
    )
  return 0
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(`bench: ${error instanceof Error ? error.message : error}`)
  return 1
})
