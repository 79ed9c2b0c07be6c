import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { FaultTotals, PROMPTS, readWithFaults, referenceTexts } from './fault-injection.ts'
import { count, never, type Scenario, seeded } from './scenario.ts'

const AT_A_TIME = 8
/** Most events that a client reads between two disconnects. */
const MOST_EVENTS = 60

/** Clients disconnect at random points and resume, until their streams are complete. */
export const drops: Scenario = async ({ size, seed, log, record }) => {
  const random = seeded(seed)
  const fleet = await startFleet({ nodes: 1, openEdge: evictableEdge(() => {}) })
  try {
    const totals = new FaultTotals(await referenceTexts(fleet))
    let dropped = 0
    const client = async (index: number) => {
      for (let round = index; dropped < size; round++) {
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        let next = 1 + Math.floor(random() * MOST_EVENTS)
        const outcome = await readWithFaults(fleet, prompt, ({ events, disconnect }) => {
          if (events < next || dropped >= size) return
          next = events + 1 + Math.floor(random() * MOST_EVENTS)
          if (++dropped % 100 === 0) log(`${dropped} connections dropped`)
          disconnect()
        })
        totals.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, ...counts })
      }
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, index) => client(index)))
    const name = `${dropped} client drops with resume`
    return [
      never(`${name}: events lost`, totals.lost, 'events'),
      never(`${name}: events duplicated`, totals.duplicated, 'events'),
      never(`${name}: streams failed`, totals.failed, 'streams'),
      never(`${name}: texts that differ`, totals.different, 'streams'),
      count(`${name}: streams`, totals.streams, 'streams'),
      count(`${name}: events`, totals.events, 'events'),
    ]
  } finally {
    await fleet.close()
  }
}
