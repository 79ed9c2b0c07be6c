import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { FaultTotals, PROMPTS, readWithFaults, referenceTexts } from './fault-injection.ts'
import { killCases, killUnderLoad } from './kill-under-load.ts'
import { count, never, type Scenario } from './scenario.ts'

const NODES = 3
const AT_A_TIME = 9

/**
 * Repeated `kill -9` of the busiest of three gpu nodes while answers are generated. A new node replaces each
 * killed one and must be registered before the next kill. Only kills that hit a running answer count. Real
 * engine, demo model, greedy.
 */
export const kills: Scenario = async ({ size, log, record }) => {
  const fleet = await startFleet({ nodes: NODES, openEdge: evictableEdge(() => {}) })
  try {
    const totals = new FaultTotals(await referenceTexts(fleet))
    let over = false
    const client = async (index: number) => {
      for (let round = index; !over; round++) {
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        const outcome = await readWithFaults(fleet, prompt)
        totals.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, ...counts })
        if (outcome.failure) log(`a request failed: ${outcome.failure}`)
      }
    }
    const clients = Array.from({ length: AT_A_TIME }, (_, index) => client(index))
    const killing = killUnderLoad(fleet, size, (kill) => {
      record({ ...kill })
      if (kill.killed % 10 === 0) log(`${kill.killed} gpu nodes killed`)
    }).finally(() => {
      over = true
    })
    const [kills] = await Promise.all([killing, ...clients])
    const name = `${size} gpu nodes killed under load, ${NODES} at a time`
    return [
      never(`${name}: requests failed`, totals.failed, 'requests'),
      never(`${name}: greedy texts that differ`, totals.different, 'requests'),
      never(`${name}: events lost`, totals.lost, 'events'),
      never(`${name}: events duplicated`, totals.duplicated, 'events'),
      count(`${name}: requests`, totals.streams, 'requests'),
      ...killCases(name, kills),
    ]
  } finally {
    await fleet.close()
  }
}
