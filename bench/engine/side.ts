import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EngineCase } from './cases.ts'

/** One of the two compared programs, with its model loaded. */
export interface Side {
  /** Tokens per second of one run; each seed is a different prompt. */
  rate(test: EngineCase, seed: number): Promise<number>
  close(): Promise<void>
}

/** Share of its speed that a side keeps beside a process that keeps one core busy. */
export async function keptBesideNeighbour(side: Side, test: EngineCase, seed: number): Promise<number> {
  const quiet = await side.rate(test, seed)
  const neighbour = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' })
  try {
    await sleep(150) // until the neighbour has started
    return (await side.rate(test, seed)) / quiet
  } finally {
    neighbour.kill('SIGKILL')
  }
}
