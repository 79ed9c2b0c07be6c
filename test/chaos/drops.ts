import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { count, never, type Scenario, seeded } from './scenario.ts'
import { PROMPTS, readWatched, Tally, undisturbed } from './watched-stream.ts'

const AT_A_TIME = 8
/** Events that a client reads between two cuts, at most. */
const MOST_EVENTS = 60

/** Clients that lose their connection at random points and come back for the rest, as often as it takes. */
export const drops: Scenario = async ({ size, seed, say, record }) => {
  const random = seeded(seed)
  const fleet = await startFleet({ nodes: 1, openEdge: evictableEdge(() => {}) })
  try {
    const tally = new Tally(await undisturbed(fleet))
    let dropped = 0
    const client = async (index: number) => {
      for (let round = index; dropped < size; round++) {
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        let next = 1 + Math.floor(random() * MOST_EVENTS)
        const outcome = await readWatched(fleet, prompt, ({ events, drop }) => {
          if (events < next || dropped >= size) return
          next = events + 1 + Math.floor(random() * MOST_EVENTS)
          if (++dropped % 100 === 0) say(`${dropped} connections dropped`)
          drop()
        })
        tally.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, ...counts })
      }
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, index) => client(index)))
    const name = `${dropped} client drops with resume`
    return [
      never(`${name}: events lost`, tally.lost, 'events'),
      never(`${name}: events doubled`, tally.doubled, 'events'),
      never(`${name}: streams failed`, tally.failed, 'streams'),
      never(`${name}: texts that differ`, tally.different, 'streams'),
      count(`${name}: streams`, tally.streams, 'streams'),
      count(`${name}: events`, tally.events, 'events'),
    ]
  } finally {
    await fleet.close()
  }
}
