import type { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { overSse } from '../edge/first-token.ts'
import type { PacedStack } from '../edge/paced-stack.ts'
import { processUsage } from '../edge/process-usage.ts'

/** Pause between two requests. */
const PAUSE_MS = 50
const SAMPLE_MS = 500

/** What a valid user noticed for some time. */
export interface Phase {
  /** Times to the first token, in ms. */
  readonly times: number[]
  errors: number
  /** Memory of the edge. */
  readonly rssMiB: number[]
}

/** One request after the other with a valid key. */
export async function use(stack: PacedStack, agent: Agent, seconds: number): Promise<Phase> {
  const phase: Phase = { times: [], errors: 0, rssMiB: [] }
  const watch = setInterval(() => phase.rssMiB.push(processUsage(stack.edgeProcesses).rssMiB), SAMPLE_MS)
  const headers = { authorization: `Bearer ${stack.key}` }
  const end = performance.now() + seconds * 1000
  while (performance.now() < end) {
    try {
      const ms = await overSse(agent, `${stack.edgeUrl}/v1`, headers, { apar: { enabled: false } })
      if (Number.isNaN(ms)) phase.errors++
      else phase.times.push(ms)
    } catch (error) {
      phase.errors++
      console.error(`hostile: a valid request failed: ${error instanceof Error ? error.message : error}`)
    }
    await sleep(PAUSE_MS)
  }
  clearInterval(watch)
  return phase
}
