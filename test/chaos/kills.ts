import { setTimeout as sleep } from 'node:timers/promises'
import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { count, never, type Scenario } from './scenario.ts'
import { PROMPTS, readWatched, Tally, undisturbed } from './watched-stream.ts'

const NODES = 3
const AT_A_TIME = 9
const POLL_MS = 20

/**
 * `kill -9` for the busiest of three gpu nodes, again and again while answers are written; each is replaced by a new one, which
 * has to be known to the edge before the next is killed. Real engine, demo model, greedy.
 */
export const kills: Scenario = async ({ size, say, record }) => {
  const fleet = await startFleet({ nodes: NODES, openEdge: evictableEdge(() => {}) })
  try {
    const tally = new Tally(await undisturbed(fleet))
    let [killed, hit] = [0, 0]
    const client = async (index: number) => {
      for (let round = index; killed < size; round++) {
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        const outcome = await readWatched(fleet, prompt)
        tally.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, ...counts })
        if (outcome.failure) say(`a request failed: ${outcome.failure}`)
      }
    }
    const kill = async () => {
      while (killed < size) {
        const busiest = Math.max(...(await fleet.load()).map(({ running }) => running))
        if (busiest === 0) {
          await sleep(POLL_MS)
          continue
        }
        await fleet.killBusiest()
        killed++
        hit += busiest
        record({ killed, running: busiest })
        if (killed % 10 === 0) say(`${killed} gpu nodes killed`)
        await fleet.addNode()
      }
    }
    await Promise.all([kill(), ...Array.from({ length: AT_A_TIME }, (_, index) => client(index))])
    const name = `${killed} gpu nodes killed under load, ${NODES} at a time`
    return [
      never(`${name}: requests failed`, tally.failed, 'requests'),
      never(`${name}: greedy texts that differ`, tally.different, 'requests'),
      never(`${name}: events lost`, tally.lost, 'events'),
      never(`${name}: events doubled`, tally.doubled, 'events'),
      count(`${name}: requests`, tally.streams, 'requests'),
      count(`${name}: answers that ran on a node when it was killed`, hit, 'answers'),
    ]
  } finally {
    await fleet.close()
  }
}
