import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { count, never, type Scenario, seeded } from './scenario.ts'
import { PROMPTS, readWatched, Tally, undisturbed } from './watched-stream.ts'

const AT_A_TIME = 6
const MOST_EVENTS = 120
/** The edge's whole process is restarted once in so many evictions: all sessions lose memory and sockets at the same time. */
const RESTART_EVERY = 25

/**
 * StreamSessions that lose their memory and their sockets in the middle of a stream, and keep their storage: one by one
 * (`ctx.abort()`), and all that live when workerd is restarted. The client comes back, the session reads the node's log again.
 */
export const evictions: Scenario = async ({ size, seed, say, record }) => {
  const random = seeded(seed)
  const fleet = await startFleet({ nodes: 1, openEdge: evictableEdge(() => {}) })
  try {
    const tally = new Tally(await undisturbed(fleet))
    const live = new Set<string>()
    let [evicted, restarts] = [0, 0]
    let restarting: Promise<void> | undefined
    const evict = async (stream: string) => {
      if (Math.round(evicted / RESTART_EVERY) > restarts || restarting) {
        restarts += restarting ? 0 : 1
        evicted += restarting ? 0 : live.size
        restarting ??= fleet.restartEdge().finally(() => {
          restarting = undefined
        })
        await restarting
      } else {
        evicted++
        await fetch(`${fleet.url}/chaos/evict/${stream}`).catch(() => {})
      }
    }
    const client = async (index: number) => {
      for (let round = index; evicted < size; round++) {
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        let next = 1 + Math.floor(random() * MOST_EVENTS)
        let mine = ''
        const outcome = await readWatched(fleet, prompt, async ({ events, stream }) => {
          mine = stream
          live.add(stream)
          if (events < next || evicted >= size) return
          next = events + 1 + Math.floor(random() * MOST_EVENTS)
          await evict(stream)
        })
        live.delete(mine)
        tally.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, evicted, ...counts })
        say(`${evicted} sessions evicted${outcome.failure ? `, a stream failed: ${outcome.failure}` : ''}`)
      }
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, index) => client(index)))
    const name = `${evicted} evictions of StreamSessions mid-stream`
    return [
      never(`${name}: events lost`, tally.lost, 'events'),
      never(`${name}: events doubled`, tally.doubled, 'events'),
      never(`${name}: streams failed`, tally.failed, 'streams'),
      never(`${name}: texts that differ`, tally.different, 'streams'),
      count(`${name}: restarts of workerd among them`, restarts, 'restarts'),
      count(`${name}: streams`, tally.streams, 'streams'),
    ]
  } finally {
    await fleet.close()
  }
}
