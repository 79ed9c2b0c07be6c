import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EngineCase } from './cases.ts'

/** One of the two that are compared, with its model loaded. */
export interface Side {
  /** Tokens per second of one run; another seed is another prompt. */
  rate(test: EngineCase, seed: number): Promise<number>
  close(): Promise<void>
}

/** Share of its speed that a side keeps while a process beside it never rests. */
export async function keptBesideNeighbour(side: Side, test: EngineCase, seed: number): Promise<number> {
  const quiet = await side.rate(test, seed)
  const neighbour = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' })
  try {
    await sleep(150) // its own start
    return (await side.rate(test, seed)) / quiet
  } finally {
    neighbour.kill('SIGKILL')
  }
}
