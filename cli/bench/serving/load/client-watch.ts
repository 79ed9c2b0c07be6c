import { monitorEventLoopDelay } from 'node:perf_hooks'
import { percentile } from '../../percentile.ts'

const RESOLUTION_MS = 10
/** From here on times of pieces and of sendings are those of this program, not of the target. */
const LATE_MS = 20

/** How far this program kept up with what it measured. */
export interface ClientHealth {
  /** How late timers were, in ms. */
  readonly loop_late_p99_ms: number
  readonly loop_late_max_ms: number
  /** How late requests were sent that no limit made wait, in ms. */
  readonly sent_late_p99_ms: number
  /** Share of one processor that this program used. */
  readonly cpu: number
  /** The measured times are not to be trusted. */
  readonly late: boolean
}

/** Watches this program from its construction on. */
export class ClientWatch {
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  readonly #usage = process.cpuUsage()
  readonly #begun = performance.now()

  constructor() {
    this.#delay.enable()
  }

  stop(latenessMs: readonly number[]): ClientHealth {
    this.#delay.disable()
    const { user, system } = process.cpuUsage(this.#usage)
    // The histogram has the time between two timers, not what was too much of it.
    const late = (ns: number) => round(Math.max(0, ns / 1e6 - RESOLUTION_MS))
    const health = {
      loop_late_p99_ms: late(this.#delay.count === 0 ? 0 : this.#delay.percentile(99)),
      loop_late_max_ms: late(this.#delay.count === 0 ? 0 : this.#delay.max),
      sent_late_p99_ms: latenessMs.length === 0 ? 0 : round(percentile(latenessMs, 99)),
      cpu: round((user + system) / 1000 / (performance.now() - this.#begun)),
    }
    return { ...health, late: Math.max(health.loop_late_p99_ms, health.sent_late_p99_ms) > LATE_MS }
  }
}

function round(value: number): number {
  return Math.round(100 * value) / 100
}
