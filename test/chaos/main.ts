import { parseArgs } from 'node:util'
import { type BenchCase, type BenchResult, commit, machine, SampleFile } from '../../bench/report.ts'
import { never, type Scenario } from './scenario.ts'
import { SCENARIOS } from './scenarios.ts'

const USAGE = `usage: chaos [--quick] [--json] [--seed N] [NAME[=SIZE] ...]; names: ${Object.keys(SCENARIOS).join(', ')}`

interface Planned {
  readonly name: string
  readonly scenario: Scenario
  readonly size: number
}

/** `chaos [--quick] [--json] [NAME[=SIZE] ...]`: output as of the benches; exit code 1 when a case misses its goal. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
    },
  })
  const seed = Number(values.seed)
  if (!Number.isSafeInteger(seed) || (values.quick && values.full)) throw new Error(USAGE)
  const plan = planOf(positionals, values.quick)
  const file = new SampleFile('chaos')
  const cases: BenchCase[] = []
  for (const { name, scenario, size } of plan) {
    const begun = performance.now()
    console.error(`chaos: ${name}, size ${size}, seed ${seed}`)
    const options = {
      size,
      seed,
      log: (line: string) => console.error(`chaos: ${name}: ${line}`),
      record: (sample: object) => file.add({ bench: 'chaos', case: name, seed, ...sample }),
    }
    // A scenario that fails must not prevent the others.
    const found = await scenario(options).catch((error: unknown) => {
      options.log(error instanceof Error ? (error.stack ?? error.message) : String(error))
      return [never(`${name}: failed to run`, 1, 'times')]
    })
    cases.push(...found)
    console.error(`chaos: ${name}: ${((performance.now() - begun) / 1000).toFixed(1)} s`)
  }
  const result: BenchResult = {
    bench: 'chaos',
    commit: commit(),
    machine: machine(),
    samples: file.path,
    cases,
  }
  if (values.json) console.log(JSON.stringify(result))
  else console.table(cases.map(({ case: name, value, unit, goal }) => ({ case: name, value, unit, goal })))
  return cases.every(meetsGoal) ? 0 : 1
}

/** All scenarios, or the named ones, with the size given after `=`. */
function planOf(names: readonly string[], quick: boolean): Planned[] {
  const asked = names.length > 0 ? names : Object.keys(SCENARIOS)
  return asked.map((argument) => {
    const [name = '', given] = argument.split('=')
    const known = Object.hasOwn(SCENARIOS, name) ? SCENARIOS[name] : undefined
    const size = given === undefined ? known?.[quick ? 'quick' : 'full'] : Number(given)
    if (!known || size === undefined || !(size > 0)) throw new Error(USAGE)
    return { name, scenario: known.run, size }
  })
}

function meetsGoal({ value, goal }: BenchCase): boolean {
  return goal === null || value <= goal
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(`chaos: ${error instanceof Error ? error.message : error}`)
  return 1
})
