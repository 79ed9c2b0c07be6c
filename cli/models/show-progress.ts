import { progress as progressBar } from '@clack/prompts'
import type { PullPlan, PullProgress } from './pull-progress.ts'
import { showBytes } from './show.ts'

/** Shows a pull on the error output: a bar on a terminal, plain lines elsewhere. */
export interface ShownProgress extends PullProgress {
  /** Runs a pull; the display ends with it. */
  during<T>(pull: () => Promise<T>): Promise<T>
}

const REDRAW_MS = 100
/** Between two lines where each redraw would add one. */
const LINE_MS = 10_000

export function showProgress(): ShownProgress {
  // Some pseudo-terminals have no width, and the bar would wrap after each character.
  return process.stderr.isTTY && process.stderr.columns > 0
    ? onTerminal()
    : inLines((line) => console.error(line))
}

/** Bytes so far, of how many, and how fast: `45 MB of 98 MB, 12 MB/s`. */
class Meter {
  readonly plan: PullPlan
  #came = 0
  readonly #begun = performance.now()

  constructor(plan: PullPlan) {
    this.plan = plan
  }

  add(bytes: number): void {
    this.#came += bytes
  }

  toString(): string {
    const { bytes, resumed } = this.plan
    const seconds = (performance.now() - this.#begun) / 1000
    const speed = seconds > 0.5 && this.#came > 0 ? `, ${showBytes(this.#came / seconds)}/s` : ''
    return `${showBytes(resumed + this.#came)} of ${showBytes(bytes)}${speed}`
  }
}

function headline({ name, files, bytes, present }: PullPlan): string {
  const what = `${files} ${files === 1 ? 'file' : 'files'}, ${showBytes(bytes)}`
  return `pulling ${name}: ${what}${present > 0 ? ` (${present} more ${present === 1 ? 'is' : 'are'} here already)` : ''}`
}

/** `write` gets a line at a time. */
export function inLines(write: (line: string) => void): ShownProgress {
  let meter: Meter | undefined
  let shown = performance.now()
  return {
    begin: (plan) => {
      meter = new Meter(plan)
      if (plan.files > 0) write(headline(plan))
    },
    received: (bytes) => {
      meter?.add(bytes)
      if (performance.now() - shown < LINE_MS) return
      shown = performance.now()
      write(`  ${meter}`)
    },
    fileDone: (path, bytes) => write(`  ${path} (${showBytes(bytes)})`),
    note: (message) => write(`  ${message}`),
    during: (pull) => pull(),
  }
}

function onTerminal(): ShownProgress {
  let meter: Meter | undefined
  let bar: ReturnType<typeof progressBar> | undefined
  let drawn = 0
  let pending = 0
  // The library ends the process at Ctrl-C as if all were well.
  const interrupted = () => {
    process.exitCode ||= 130
  }
  return {
    begin: (plan) => {
      meter = new Meter(plan)
      if (plan.files === 0) return
      pending = plan.resumed
      bar = progressBar({ max: Math.max(1, plan.bytes), output: process.stderr, style: 'block' })
      process.once('exit', interrupted)
      bar.start(headline(plan))
    },
    received: (bytes) => {
      meter?.add(bytes)
      pending += bytes
      const now = performance.now()
      if (now - drawn < REDRAW_MS) return
      drawn = now
      bar?.advance(pending, `${meter?.plan.name}: ${meter}`)
      pending = 0
    },
    fileDone: () => {},
    note: (message) => bar?.message(message),
    during: async (pull) => {
      try {
        const result = await pull()
        bar?.stop(meter ? `pulled ${meter.plan.name}, ${showBytes(meter.plan.bytes)}` : 'done')
        return result
      } catch (error) {
        bar?.error('stopped')
        throw error
      } finally {
        process.off('exit', interrupted)
      }
    },
  }
}
