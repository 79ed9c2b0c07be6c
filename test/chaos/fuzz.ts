import { growthPercent } from '../../bench/edge/process-usage.ts'
import { fuzzInProcess } from './fuzz/in-process.ts'
import { fuzzOverSockets } from './fuzz/over-sockets.ts'
import { count, flat, never, type Scenario } from './scenario.ts'

/** Share of inputs sent over sockets; the others go to the same parsers in this process. */
const SOCKET_SHARE = 0.1

/** Sends invalid frames and bodies to edge and gpu node. A failure is printed with its seed and its input. */
export const fuzz: Scenario = async ({ size, seed, log, record }) => {
  const begun = performance.now()
  const over = await fuzzOverSockets(Math.ceil(size * SOCKET_SHARE), seed, log)
  const inside = await fuzzInProcess(size - Math.ceil(size * SOCKET_SHARE), seed, log)
  const seconds = (performance.now() - begun) / 1000
  record({ seconds, over, inside })
  const name = `${over.inputs.total + inside.inputs.total} fuzzed frames and bodies`
  return [
    never(`${name}: crashes, hangs, invalid answers`, over.failures.length, 'inputs'),
    never(`${name}: unexpected errors in process`, inside.failures.length, 'inputs'),
    never(`${name}: errors in the edge's log`, over.loggedErrors.length, 'lines'),
    never(`${name}: requests left running`, over.leftOver, 'requests'),
    never(`${name}: edge and node no longer serve`, over.stillServes ? 0 : 1, 'times'),
    flat(`${name}: growth of the edge's memory`, over.edgeGrowth, seconds),
    flat(`${name}: growth of the gpu node's memory`, over.nodeGrowth, seconds),
    flat(`${name}: growth of the heap in process`, growthPercent(inside.heap), seconds),
    ...[...over.inputs].map(([boundary, inputs]) => count(`over sockets: ${boundary}`, inputs, 'inputs')),
    ...[...inside.inputs].map(([boundary, inputs]) => count(`in process: ${boundary}`, inputs, 'inputs')),
    count('over sockets', over.inputs.total, 'inputs'),
    count('in process', inside.inputs.total, 'inputs'),
  ]
}
