import { batch, signal } from '@preact/signals'
import { type BranchStream, openStream, resumeStream } from '../../../client/index.ts'
import { AparError } from '../../../shared/errors.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import { type AnswerState, type Recorded, Recording } from './recording.ts'

/** How often an answer that grows is stored. */
const SAVE_MS = 500
/** How often the clock moves while no text comes. */
const TICK_MS = 200

export interface AnsweringOptions {
  readonly apiKey: string
  /** Called every half a second while the answer grows, and at its end. */
  readonly onSave?: ((recorded: Recorded) => void) | undefined
  /** Called when the page is left while the answer grows. */
  readonly onLeave?: ((recorded: Recorded) => void) | undefined
  readonly onEnd?: ((recorded: Recorded) => void) | undefined
}

/** One answer while it grows: reads its stream into a recording. `version` changes whenever there is more to show. */
export class Answering {
  readonly version = signal(0)
  /** What the last drawing took. The next one waits longer, so that a long answer leaves the page time for its user. */
  drawMs = 0
  readonly recording: Recording
  readonly #base: Recorded
  readonly #stream: BranchStream
  readonly #options: AnsweringOptions
  readonly #abort = new AbortController()
  readonly #startedAt: number
  #state: AnswerState = 'running'
  #problem: Recorded['problem']
  #elapsedMs: number | undefined
  #savedAt = 0
  #savedAfter = -1
  /** The last position at which no event was on its way from the stream to the recording. */
  #whole: Pick<Recorded, 'events' | 'after'>
  #drawn = false
  #detached = false

  static start(request: GenerateRequest, options: AnsweringOptions): Answering {
    const base: Recorded = {
      model: request.model,
      parallel: request.branching?.enabled !== false,
      started: Date.now(),
      state: 'running',
      elapsed_ms: 0,
      events: [],
      after: -1,
    }
    return new Answering(base, request, options)
  }

  /** Goes on with an answer that an earlier page has begun; undefined when that page did not learn the stream's name. */
  static resume(recorded: Recorded, options: AnsweringOptions): Answering | undefined {
    const accepted = recorded.events[0]?.[1]
    return accepted?.type === 'accepted' ? new Answering(recorded, accepted.stream, options) : undefined
  }

  /** `source`: a new request, or the name of a stream. */
  private constructor(base: Recorded, source: GenerateRequest | string, options: AnsweringOptions) {
    const { signal } = this.#abort
    const common = { baseUrl: location.origin, apiKey: options.apiKey, signal }
    this.#base = base
    this.#whole = base
    this.#options = options
    this.recording = new Recording(base.events)
    this.#startedAt = performance.now() - (Date.now() - base.started)
    if (typeof source === 'string') {
      const events = base.events.map(([, event]) => event)
      this.#stream = resumeStream({ ...common, position: { stream: source, after: base.after, events } })
    } else {
      this.#stream = openStream({ ...common, request: source })
    }
    void this.#read()
  }

  get state(): AnswerState {
    return this.#state
  }

  get problem(): Recorded['problem'] {
    return this.#problem
  }

  get elapsedMs(): number {
    return this.#elapsedMs ?? this.#now()
  }

  /** The page stops showing at once; the server is told. */
  stop(): void {
    if (this.#state !== 'running') return
    this.recording.stopBranch(this.#now(), 0)
    this.#finish('stopped')
    this.#abort.abort()
  }

  stopBranch(branch: number): void {
    if (branch === 0) {
      this.stop()
      return
    }
    this.recording.stopBranch(this.#now(), branch)
    this.#stream.cancelBranch(branch)
    this.#redraw()
  }

  /** Leaves the stream to the next page, which can resume it for 30 s. */
  detach(): void {
    if (this.#state !== 'running') return
    this.#detached = true
    this.#options.onLeave?.(this.recorded())
    this.#stream.detach()
  }

  recorded(): Recorded {
    return {
      ...this.#base,
      state: this.#state,
      elapsed_ms: Math.round(this.elapsedMs),
      ...this.#position(),
      problem: this.#problem,
    }
  }

  /** The recorded events, and the number behind them: a page that resumes from there gets no text twice, and all of it. */
  #position(): Pick<Recorded, 'events' | 'after'> {
    if (this.#state !== 'running' || this.#stream.caughtUp)
      this.#whole = { events: [...this.recording.events], after: this.#stream.lastSeq }
    return { events: this.#whole.events, after: this.#whole.after }
  }

  async #read(): Promise<void> {
    const tick = setInterval(() => {
      if (this.#state === 'running') this.#redraw()
      // What came last is stored also when nothing comes after it.
      this.#saveSometimes()
    }, TICK_MS)
    try {
      for await (const event of this.#stream) {
        // After a stop only the usage is of interest, which comes with the last event.
        if (this.#state === 'running' || event.type === 'done') this.recording.add(this.#now(), event)
        if (event.type === 'done') this.#finish(event.reason === 'abort' ? 'stopped' : 'complete')
        this.#redraw()
        this.#saveSometimes()
      }
    } catch (thrown) {
      this.recording.endAll(this.#now())
      const { code, message } =
        thrown instanceof AparError ? thrown : new AparError('internal_error', String(thrown))
      if (this.#state === 'running') this.#problem = { code, message }
      this.#finish('failed')
    } finally {
      clearInterval(tick)
    }
  }

  #finish(state: AnswerState): void {
    if (this.#detached) return
    const first = this.#state === 'running'
    if (first) {
      this.#state = state
      this.#elapsedMs = this.#now()
    }
    const recorded = this.recorded()
    // Together, so that the page never shows the end beside the text of the moment before.
    batch(() => {
      this.#options.onSave?.(recorded)
      this.version.value++
      if (first) this.#options.onEnd?.(recorded)
    })
  }

  #saveSometimes(): void {
    const now = performance.now()
    if (this.#state !== 'running' || now - this.#savedAt < SAVE_MS) return
    const recorded = this.recorded()
    // A position behind which nothing can be resumed is as good as none, and is no reason to wait with the next.
    if (recorded.after === this.#savedAfter) return
    this.#savedAt = now
    this.#savedAfter = recorded.after
    this.#options.onSave?.(recorded)
  }

  /** At most once a frame. Not by `requestAnimationFrame`: a page in the background gets no frames, but must see the end. */
  #redraw(): void {
    if (this.#drawn) return
    this.#drawn = true
    setTimeout(
      () => {
        this.#drawn = false
        this.version.value++
      },
      Math.max(16, 4 * this.drawMs),
    )
  }

  #now(): number {
    return performance.now() - this.#startedAt
  }
}
