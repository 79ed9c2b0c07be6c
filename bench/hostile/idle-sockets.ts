import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { percentile } from '../../cli/bench/percentile.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { startPacedStack } from '../edge/paced-stack.ts'
import type { Attack, BenchCase } from '../report.ts'
import { type Phase, use } from './valid-user.ts'

const STEP_MS = 5
const SOCKETS = 5_000
/** The default of a key, in edge/keys/budget/socket-leases.ts. */
const SOCKETS_PER_KEY = 512

interface IdleReport {
  readonly tried: number
  readonly opened: number
  readonly mostOpen: number
  readonly closed: Readonly<Record<string, number>>
  /** By error code. */
  readonly refused: Readonly<Record<string, number>>
  /** Handshakes without an answer. */
  readonly failed: number
}

/**
 * The holder of one key keeps opening sockets that send nothing, half of them shared ones, while the holder of another
 * key streams short answers.
 */
export const idleSockets: Attack = async (quick, file) => {
  const [aloneSeconds, seconds] = quick ? [3, 10] : [15, 60]
  const stack = await startPacedStack(STEP_MS)
  const agent = new Agent({ keepAlive: true })
  try {
    await use(stack, agent, 2)
    const alone = await use(stack, agent, aloneSeconds)
    const clients = fork(join(packageRoot, 'bench/hostile/idle-clients.mjs'), {
      env: { ...process.env, URL: stack.edgeUrl, KEY: stack.otherKey, SOCKETS: String(SOCKETS) },
    })
    let report: IdleReport = { tried: 0, opened: 0, mostOpen: 0, closed: {}, refused: {}, failed: 0 }
    clients.on('message', (message: IdleReport) => {
      report = message
    })
    const attacked = await use(stack, agent, seconds)
    clients.disconnect()
    await once(clients, 'exit')
    const { too_many_streams: refused = 0, ...others } = report.refused
    if (report.opened === 0 || refused === 0) throw new Error(`no attack: ${JSON.stringify(report)}`)
    for (const [phase, { times, errors, rssMiB }] of Object.entries({ alone, attacked }))
      file.add({ bench: 'hostile', case: 'idle sockets', phase, times, errors, rssMiB, report })
    console.error(`hostile: idle sockets: ${JSON.stringify(report)}, ${attacked.times.length} valid requests`)
    const strange = Object.values(others).reduce((sum, count) => sum + count, report.failed)
    const p50 = (of: Phase) => percentile(of.times, 50)
    return [
      row('handshakes tried', report.tried, 'sockets', null),
      row('open at the same time', report.mostOpen, 'sockets', SOCKETS_PER_KEY),
      row('refused otherwise than with too_many_streams', strange, 'sockets', 0),
      row('failed requests of another key', attacked.errors, 'requests', 0),
      row('first token of another key alone, p50', p50(alone), 'ms', null),
      row('first token of another key, times that alone, p50', p50(attacked) / p50(alone), 'x', 2),
      row('memory of workerd before', alone.rssMiB.at(-1) ?? Number.NaN, 'MiB', null),
      row('memory of workerd at the end', attacked.rssMiB.at(-1) ?? Number.NaN, 'MiB', null),
    ]
  } finally {
    agent.destroy()
    await stack.close()
  }
}

function row(what: string, value: number, unit: string, goal: number | null): BenchCase {
  return { case: `idle sockets: ${what}`, value: Number(value.toPrecision(4)), unit, better: 'lower', goal }
}
