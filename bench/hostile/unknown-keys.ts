import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { percentile } from '../../cli/bench/percentile.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { startPacedStack } from '../edge/paced-stack.ts'
import { FLAT_PERCENT, growthPercent } from '../edge/process-usage.ts'
import type { Attack, BenchCase } from '../report.ts'
import { type Phase, use } from './valid-user.ts'

const STEP_MS = 5
const RATE = 2_000

/** What the stranger reports, since its beginning. */
interface StrangerReport {
  readonly seconds: number
  readonly sent: number
  readonly statuses: Readonly<Record<string, number>>
  /** Requests without an answer, because their connection was closed. */
  readonly lost: number
}

/**
 * A stranger sends well-formed but unknown keys, each another one, while a valid user behind the same address streams
 * short answers, one after the other.
 */
export const unknownKeys: Attack = async (quick, file) => {
  // The heap of the edge grows to its working size at first: memory counts from then on.
  const [aloneSeconds, growingSeconds, seconds] = quick ? [3, 2, 8] : [15, 40, 60]
  const stack = await startPacedStack(STEP_MS)
  const agent = new Agent({ keepAlive: true })
  try {
    await use(stack, agent, 2)
    const alone = await use(stack, agent, aloneSeconds)
    const stranger = fork(join(packageRoot, 'bench/hostile/stranger.mjs'), {
      env: { ...process.env, URL: stack.edgeUrl, RATE: String(RATE) },
    })
    let report: StrangerReport = { seconds: 0, sent: 0, statuses: {}, lost: 0 }
    stranger.on('message', (message: StrangerReport) => {
      report = message
    })
    const growing = await use(stack, agent, growingSeconds)
    const attacked = await use(stack, agent, seconds)
    stranger.disconnect()
    await once(stranger, 'exit')
    const p50 = (of: Phase) => percentile(of.times, 50)
    for (const [name, phase] of Object.entries({ alone, attacked })) {
      const { times, errors, rssMiB } = phase
      file.add({ bench: 'hostile', case: 'unknown keys', phase: name, times, errors, rssMiB, report })
    }
    const rows = [
      row('requests of the stranger a second', report.sent / report.seconds, '1/s', 0.95 * RATE, 'higher'),
      row('answers to the stranger but 401 and 429', strangeAnswers(report), 'answers', 0),
      row('failed requests of a valid user', growing.errors + attacked.errors, 'requests', 0),
      row('first token of a valid user alone, p50', p50(alone), 'ms', null),
      row('first token of a valid user, p50', p50(attacked), 'ms', null),
      row('first token of a valid user, times that alone, p50', p50(attacked) / p50(alone), 'x', 2),
      row('growth of the memory of workerd', growthPercent(attacked.rssMiB), '%', FLAT_PERCENT),
      row('memory of workerd before', alone.rssMiB.at(-1) ?? Number.NaN, 'MiB', null),
      row('memory of workerd at the end', attacked.rssMiB.at(-1) ?? Number.NaN, 'MiB', null),
    ]
    console.error(`hostile: unknown keys: ${JSON.stringify(report)}, ${attacked.times.length} valid requests`)
    return rows
  } finally {
    agent.destroy()
    await stack.close()
  }
}

function strangeAnswers({ statuses, lost }: StrangerReport): number {
  const { 401: refused = 0, 429: limited = 0, ...others } = statuses
  if (refused + limited === 0) throw new Error('the stranger got no answers')
  return Object.values(others).reduce((sum, count) => sum + count, lost)
}

function row(
  what: string,
  value: number,
  unit: string,
  goal: number | null,
  better: BenchCase['better'] = 'lower',
): BenchCase {
  return { case: `unknown keys: ${what}`, value: Number(value.toPrecision(4)), unit, better, goal }
}
