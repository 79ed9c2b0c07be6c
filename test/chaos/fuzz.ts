import { FLAT_PERCENT, growthPercent } from '../../bench/edge/process-usage.ts'
import type { BenchCase } from '../../bench/report.ts'
import { fuzzInProcess } from './fuzz/in-process.ts'
import { fuzzOverSockets } from './fuzz/over-sockets.ts'
import { count, never, type Scenario } from './scenario.ts'

/** Of all inputs; the others go to the same parsers in this process, fifty times as fast. */
const SOCKET_SHARE = 0.1

/** Damaged frames and bodies for edge and gpu node. What fails is printed with its seed and its input. */
export const fuzz: Scenario = async ({ size, seed, say, record }) => {
  const over = await fuzzOverSockets(Math.ceil(size * SOCKET_SHARE), seed, say)
  const inside = await fuzzInProcess(Math.floor(size * (1 - SOCKET_SHARE)), seed, say)
  record({ over, inside })
  const flat = (name: string, value: number): BenchCase => {
    const rounded = Number(value.toPrecision(4))
    return { case: name, value: rounded, unit: '%', better: 'lower', goal: FLAT_PERCENT }
  }
  const sent = over.inputs.edge + over.inputs.node
  const name = `${sent + inside.inputs} fuzzed frames and bodies`
  return [
    never(`${name}: crashes, hangs, answers out of protocol`, over.failures.length, 'inputs'),
    never(`${name}: unforeseen errors in process`, inside.failures.length, 'inputs'),
    never(`${name}: faults that the edge logged`, over.faults.length, 'lines'),
    never(`${name}: requests left running`, over.leftOver, 'requests'),
    never(`${name}: edge and node no longer serve`, over.stillServes ? 0 : 1, 'times'),
    flat(`${name}: growth of the edge's memory`, over.edgeGrowth),
    flat(`${name}: growth of the gpu node's memory`, over.nodeGrowth),
    flat(`${name}: growth of the heap in process`, growthPercent(inside.heap)),
    count(`${name}: over sockets, to the edge`, over.inputs.edge, 'inputs'),
    count(`${name}: over sockets, to the gpu node`, over.inputs.node, 'inputs'),
    count(`${name}: in process`, inside.inputs, 'inputs'),
  ]
}
