import { setTimeout as sleep } from 'node:timers/promises'
import { startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { FaultTotals, PROMPTS, readWithFaults, referenceTexts } from './fault-injection.ts'
import { count, never, type Scenario, seeded } from './scenario.ts'

const AT_A_TIME = 6
const MOST_EVENTS = 120
const POLL_MS = 20
/** Once in this many evictions workerd is restarted: all sessions lose memory and sockets at the same time. */
const RESTART_EVERY = 25

/**
 * StreamSessions lose their memory and their sockets in the middle of a stream, and keep their storage: one at a
 * time (`ctx.abort()`), or all live ones when workerd is restarted. The client resumes, and the session reads the
 * node's log again.
 */
export const evictions: Scenario = async ({ size, seed, log, record }) => {
  const random = seeded(seed)
  const fleet = await startFleet({ nodes: 1, openEdge: evictableEdge(() => {}) })
  try {
    const totals = new FaultTotals(await referenceTexts(fleet))
    const live = new Set<string>()
    let [evicted, restarts, opening] = [0, 0, 0]
    let restarting: Promise<void> | undefined
    const restart = async () => {
      // A stream that is not accepted yet cannot be resumed: wait until every open stream is.
      while (opening > 0) await sleep(POLL_MS)
      restarts++
      evicted += live.size
      await fleet.restartEdge()
    }
    const evict = async (stream: string) => {
      if (restarting || Math.round(evicted / RESTART_EVERY) > restarts) {
        restarting ??= restart().finally(() => {
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
        while (restarting) await restarting
        const prompt = PROMPTS[round % PROMPTS.length] ?? ''
        let next = 1 + Math.floor(random() * MOST_EVENTS)
        let mine: string | undefined
        opening++
        const accepted = (stream: string) => {
          mine = stream
          live.add(stream)
          opening--
        }
        const outcome = await readWithFaults(fleet, prompt, async ({ events, stream }) => {
          if (mine === undefined) accepted(stream)
          if (events < next || evicted >= size) return
          next = events + 1 + Math.floor(random() * MOST_EVENTS)
          await evict(stream)
        })
        if (mine === undefined) opening--
        else live.delete(mine)
        totals.add(prompt, outcome)
        const { text: _, ...counts } = outcome
        record({ prompt, evicted, ...counts })
        if (outcome.failure) log(`a stream failed after ${evicted} evictions: ${outcome.failure}`)
      }
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, index) => client(index)))
    const name = `${evicted} evictions of StreamSessions mid-stream`
    return [
      never(`${name}: events lost`, totals.lost, 'events'),
      never(`${name}: events duplicated`, totals.duplicated, 'events'),
      never(`${name}: streams failed`, totals.failed, 'streams'),
      never(`${name}: texts that differ`, totals.different, 'streams'),
      count(`${name}: restarts of workerd among them`, restarts, 'restarts'),
      count(`${name}: streams`, totals.streams, 'streams'),
    ]
  } finally {
    await fleet.close()
  }
}
