import type { Engine, EngineInfo, EngineStats, OnEvents } from '../../gpu-node/engine/engine.ts'
import { EVENT, FINISH } from '../../gpu-node/engine/engine-events.ts'
import type { EngineRequest } from '../../gpu-node/engine/engine-request.ts'

export const PACED_MODEL = 'paced'

export interface PacedEngineOptions {
  /** Every running branch gets one token per step. */
  readonly stepMs: number
  readonly tokens: { readonly fork: number; readonly child: number; readonly text: number }
  /** Called at the first step of a request with its time by {@link now}; the seed identifies the request. */
  readonly onBegun: (seed: number, firstStepMs: number) => void
}

interface Running {
  readonly request: EngineRequest
  readonly branches: number
  /** The tick at or before the first step; the request advances at every later tick. */
  firstTick: number
  step: number
}

const BLOCKS = 2 ** 20

/**
 * Simulates an engine that is faster than this machine could run: it generates the same letter at a fixed rate.
 * The first step of a request runs at once; later steps run at ticks shared by all requests, as in one batch. The
 * root generates a letter, then forks once per step up to `maxBranches` branches; {@link dueTime} returns the
 * time at which each letter is due.
 */
export class PacedEngine implements Engine {
  readonly info: EngineInfo = {
    device: 'paced',
    dtype: 'f32',
    kvCacheDtype: 'f32',
    blockTokens: 16,
    numBlocks: BLOCKS,
    contextTokens: BLOCKS * 16,
  }
  readonly #options: PacedEngineOptions
  readonly #onEvents: OnEvents
  readonly #running = new Map<number, Running>()
  #rows: number[] = []
  #timer: NodeJS.Timeout | undefined
  /** Number of the next tick. */
  #nextTick = 0
  #steps = 0
  #generated = 0

  constructor(options: PacedEngineOptions, onEvents: OnEvents) {
    this.#options = options
    this.#onEvents = onEvents
  }

  submit(request: EngineRequest): void {
    const { maxBranches: branches = 1, seed = 0 } = request
    const running = { request, branches, firstTick: Number.POSITIVE_INFINITY, step: 0 }
    this.#running.set(request.id, running)
    // After the caller has sent `accepted`.
    setImmediate(() => {
      const first = now()
      running.firstTick = Math.floor(first / this.#options.stepMs)
      this.#options.onBegun(seed, first)
      this.#advance(running)
      this.#deliver()
    })
    if (this.#timer) return
    this.#nextTick = Math.floor(now() / this.#options.stepMs) + 1
    this.#schedule()
  }

  abort(requestId: number, branchId = 0): void {
    if (branchId === 0) this.#finish(requestId, FINISH.ABORT)
  }

  loadGrammar(): Promise<never> {
    return Promise.reject(new Error('a simulated engine has no grammars'))
  }

  stats(): EngineStats {
    const branches = [...this.#running.values()].reduce((sum, { branches }) => sum + branches, 0)
    return {
      runningRequests: this.#running.size,
      waitingRequests: 0,
      liveBranches: branches,
      runningBranches: branches,
      preemptedBranches: 0,
      freeBlocks: BLOCKS,
      cachedBlocks: 0,
      usedBlocks: 0,
      steps: this.#steps,
      generatedTokens: this.#generated,
      prefillTokens: 0,
      cachedPromptTokens: 0,
      forks: 0,
      forksRefused: 0,
      preemptions: 0,
      draftedTokens: { medusa: 0, ngram: 0 },
      acceptedTokens: { medusa: 0, ngram: 0 },
      grammarMasks: 0,
      grammarMaskSeconds: 0,
      stepSeconds: this.#options.stepMs / 1000,
      rowLimit: 0,
    }
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    for (const id of [...this.#running.keys()]) this.#finish(id, FINISH.ABORT)
  }

  /** Ticks are at fixed times: a late step does not delay the next one. */
  #schedule(): void {
    const { stepMs } = this.#options
    this.#timer = setTimeout(
      () => {
        const last = Math.floor(now() / stepMs)
        for (; this.#nextTick <= last; this.#nextTick++) this.#step(this.#nextTick)
        this.#deliver()
        if (this.#running.size > 0) this.#schedule()
        else this.#timer = undefined
      },
      Math.max(0, this.#nextTick * stepMs - now()),
    )
  }

  #step(tick: number): void {
    this.#steps++
    for (const running of [...this.#running.values()]) if (running.firstTick < tick) this.#advance(running)
  }

  #advance(running: Running): void {
    const { request, branches } = running
    const { id, maxTokens } = request
    if (this.#running.get(id) !== running) return
    const { fork, child, text } = this.#options.tokens
    const step = running.step++
    const forks = step > 0 && step < branches
    for (let branch = 0; branch < Math.min(step || 1, branches); branch++) {
      this.#rows.push(EVENT.TOKEN, id, branch, branch === 0 && forks ? fork : text, 0)
      this.#generated++
    }
    if (forks) {
      this.#rows.push(EVENT.FORK, id, 0, step, request.prompt.length + step)
      this.#rows.push(EVENT.TOKEN, id, step, child, 0)
    }
    if (step + 1 >= maxTokens / branches) this.#finish(id, FINISH.STOP)
  }

  #finish(id: number, reason: number): void {
    const running = this.#running.get(id)
    if (!running) return
    this.#running.delete(id)
    for (let branch = 0; branch < Math.min(running.step || 1, running.branches); branch++)
      this.#rows.push(EVENT.BRANCH_END, id, branch, reason, 0)
    this.#rows.push(EVENT.FINISH, id, 0, reason, 0)
    if (reason === FINISH.ABORT) setImmediate(() => this.#deliver())
  }

  #deliver(): void {
    if (this.#rows.length === 0) return
    const rows = Int32Array.from(this.#rows)
    this.#rows = []
    this.#onEvents(rows)
  }
}

/** The time at which letter `index` of a branch is due, for a request whose first step was at `first`. */
export function dueTime(
  { first, branches, stepMs }: { first: number; branches: number; stepMs: number },
  branch: number,
  index: number,
): number {
  if (branch === 0 && index === 0) return first
  const step = branch === 0 ? index + branches - 1 : branch + 1 + index
  return (Math.floor(first / stepMs) + step) * stepMs
}

/** Time in ms on a monotonic clock that all processes of this machine share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
