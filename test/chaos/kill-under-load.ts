import { setTimeout as sleep } from 'node:timers/promises'
import type { BenchCase } from '../../bench/report.ts'
import type { LocalFleet } from '../e2e/fleet.ts'
import { count } from './scenario.ts'

const POLL_MS = 20
/** Longer than any pause between two answers. */
const IDLE_TIMEOUT_MS = 30_000

/** One kill: its number, and how many answers ran on the node at that moment. */
export interface Kill {
  readonly killed: number
  readonly running: number
}

/**
 * Kills the busiest node and replaces it by a new one, until `size` kills have hit a running answer. A kill hits
 * nothing when the node's answers ended just before.
 * @throws Error when no answers run any more, or when too many kills hit nothing.
 */
export async function killUnderLoad(
  fleet: Pick<LocalFleet, 'load' | 'killBusiest' | 'addNode'>,
  size: number,
  onKill: (kill: Kill) => void = () => {},
  idleTimeoutMs = IDLE_TIMEOUT_MS,
): Promise<Kill[]> {
  const kills: Kill[] = []
  let hits = 0
  let busyAt = performance.now()
  while (hits < size) {
    if (kills.length - hits > size) throw new Error(`${kills.length - hits} kills hit nothing`)
    if ((await fleet.load()).every(({ running }) => running === 0)) {
      if (performance.now() - busyAt > idleTimeoutMs)
        throw new Error(`nothing runs after ${kills.length} kills`)
      await sleep(POLL_MS)
      continue
    }
    const { running } = await fleet.killBusiest()
    const kill = { killed: kills.length + 1, running }
    kills.push(kill)
    if (running > 0) hits++
    onKill(kill)
    await fleet.addNode()
    busyAt = performance.now()
  }
  return kills
}

export function killCases(name: string, kills: readonly Kill[]): BenchCase[] {
  const idle = kills.filter(({ running }) => running === 0).length
  const hit = kills.reduce((sum, { running }) => sum + running, 0)
  return [
    count(`${name}: answers that ran on a node when it was killed`, hit, 'answers'),
    count(`${name}: further nodes on which nothing ran when they were killed`, idle, 'nodes'),
  ]
}
