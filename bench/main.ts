import { readFileSync } from 'node:fs'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { z } from 'zod'
import { AlreadyExplained } from '../cli/explain.ts'
import { DEVICES, DTYPES } from '../gpu-node/engine/engine-config.ts'
import { parse } from '../shared/parse.ts'
import { agreement } from './agreement.ts'
import { answersPage } from './apar/answers.ts'
import { apar } from './apar.ts'
import { data } from './data.ts'
import { edge, edgeFirst, edgeStreams } from './edge.ts'
import { emulated } from './emulated.ts'
import { engine } from './engine.ts'
import { footprint } from './footprint.ts'
import { hostile } from './hostile.ts'
import { load } from './load.ts'
import { medusa } from './medusa.ts'
import { peers } from './peers.ts'
import { plot } from './plot.ts'
import { prefix } from './prefix.ts'
import type { Bench } from './report.ts'
import { writePage } from './serving/page.ts'
import { serving } from './serving.ts'
import { structured } from './structured.ts'
import { trace } from './trace.ts'

const BENCHES: Record<string, Bench> = {
  agreement,
  apar,
  data,
  edge,
  'edge-first': edgeFirst,
  'edge-streams': edgeStreams,
  emulated,
  engine,
  footprint,
  hostile,
  load,
  medusa,
  peers,
  prefix,
  serving,
  structured,
  trace,
}
const USAGE = `usage: bench <${Object.keys(BENCHES).join('|')}> [--quick] [--json], bench hostile ATTACK..., bench serving PART..., or: bench plot RESULT.json, bench answers SAMPLES, bench page SAMPLES PAGE.md`
/** Of the benches that ask a model. */
const MODEL_OPTIONS = {
  model: { type: 'string' },
  adapter: { type: 'string' },
  base: { type: 'string' },
  prompts: { type: 'string', multiple: true },
  repetitions: { type: 'string' },
  dtype: { type: 'string' },
  device: { type: 'string' },
  medusa: { type: 'string' },
} as const
const { base, medusa: heads, ...ofModel } = MODEL_OPTIONS
const { model, device, dtype, repetitions } = ofModel
/** What a bench takes beside --quick and --json. */
const OPTIONS: Record<string, ParseArgsConfig['options']> = {
  apar: { ...ofModel, base },
  medusa: { ...ofModel, medusa: heads },
  peers: { model, dtype, repetitions },
  serving: { model, device, dtype, concurrency: { type: 'string' } },
}
/** Those that have parts, which can be run alone. */
const WITH_PARTS: ReadonlySet<Bench> = new Set([hostile, serving])
const ModelOptions = z.object({
  model: z.string().optional(),
  adapter: z.string().optional(),
  base: z.string().optional(),
  prompts: z.array(z.string()).optional(),
  repetitions: z.coerce.number().int().min(1).max(1000).optional(),
  dtype: z.enum(DTYPES).optional(),
  device: z.enum(DEVICES).optional(),
  medusa: z.string().optional(),
  concurrency: z
    .string()
    .transform((list) => list.split(',').map(Number))
    .pipe(z.array(z.int().min(1).max(100_000)))
    .optional(),
})

/**
 * `bench <name> [--quick] [--json]`: prints progress to standard error; with --json the last line of standard
 * output is the result. `bench hostile` takes names of attacks, and `bench serving` of parts, to run these only.
 */
async function main(args: string[]): Promise<number> {
  const common = { quick: { type: 'boolean' }, json: { type: 'boolean' } } as const
  const [first = ''] = args
  const options = { ...common, ...(Object.hasOwn(OPTIONS, first) ? OPTIONS[first] : {}) }
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  const [name = '', ...parts] = positionals
  const [file] = parts
  if (name === 'plot' && file !== undefined && args.length === 2) {
    await plot(file)
    return 0
  }
  if (name === 'answers' && file !== undefined && args.length === 2) {
    console.log(answersPage(readFileSync(file, 'utf8').trimEnd().split('\n')))
    return 0
  }
  if (name === 'page' && parts[1] !== undefined && args.length === 3) {
    await writePage(parts[0] ?? '', parts[1])
    return 0
  }
  const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
  if (!bench || (parts.length > 0 && !WITH_PARTS.has(bench))) {
    console.error(`bench: no benchmark named ${JSON.stringify(positionals.join(' '))}; ${USAGE}`)
    return 1
  }
  const { quick = false, json = false, ...flags } = values
  const result = await bench({ quick, parts, flags: parse(ModelOptions, flags) })
  if (json) console.log(JSON.stringify(result))
  else
    console.table(
      result.cases.map(({ case: name, value, unit, goal }) => ({ case: name, value, unit, goal })),
    )
  return 0
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  if (!(error instanceof AlreadyExplained))
    console.error(`bench: ${error instanceof Error ? error.message : error}`)
  return 1
})
