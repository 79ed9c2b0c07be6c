import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { killCases, killUnderLoad } from './kill-under-load.ts'
import { count, never, type Scenario } from './scenario.ts'
import { PROMPTS, readWatched, Tally, undisturbed } from './watched-stream.ts'

const NODES = 3
const AT_A_TIME = 9

/**
 * `kill -9` for the busiest of three gpu nodes, again and again while answers are written; each is replaced by a new one, which
 * has to be known to the edge before the next is killed. Only kills that hit a running answer count. Real engine, demo model,
 * greedy.
 */
export const kills: Scenario = async ({ size, say, record }) => {
  const fleet = await startFleet({ nodes: NODES, openEdge: evictableEdge(() => {}) })
  try {
    const tally = new Tally(await undisturbed(fleet))
    let over = false
    const client = async (index: number) => {
      for (let round = index; !over; round++) {
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        const outcome = await readWatched(fleet, prompt)
        tally.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, ...counts })
        if (outcome.failure) say(`a request failed: ${outcome.failure}`)
      }
    }
    const clients = Array.from({ length: AT_A_TIME }, (_, index) => client(index))
    const killing = killUnderLoad(fleet, size, (kill) => {
      record({ ...kill })
      if (kill.killed % 10 === 0) say(`${kill.killed} gpu nodes killed`)
    }).finally(() => {
      over = true
    })
    const [kills] = await Promise.all([killing, ...clients])
    const name = `${size} gpu nodes killed under load, ${NODES} at a time`
    return [
      never(`${name}: requests failed`, tally.failed, 'requests'),
      never(`${name}: greedy texts that differ`, tally.different, 'requests'),
      never(`${name}: events lost`, tally.lost, 'events'),
      never(`${name}: events doubled`, tally.doubled, 'events'),
      count(`${name}: requests`, tally.streams, 'requests'),
      ...killCases(name, kills),
    ]
  } finally {
    await fleet.close()
  }
}
