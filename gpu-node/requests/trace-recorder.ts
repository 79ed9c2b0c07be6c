import type { FinishReason } from '../../shared/protocol/events.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'
import { TRACE_FIELD } from '../engine/engine-events.ts'

type Tokens = TraceStep['tokens'][number]

const TOKEN = 0
const FORK = 1
const END = 2
/** Numbers of a row in {@link TraceRecorder}: what happened, branch, token or parent, position. */
const WIDTH = 4

const NO_FIGURES = {
  ...{ rows: 0, batch_rows: 0, live: 0, sampled: 0, blocks: 0, used_blocks: 0, cached: 0, attended: 0 },
  ...{ drafted: 0, accepted: 0 },
}

/**
 * Puts the engine's events of a traced request together to steps: what happened, and the figures that end the step. Small
 * models make thousands of steps a second, so nothing is allocated for an event by itself.
 */
export class TraceRecorder {
  /** What happened since the last step, and the text that each row completed. */
  #rows: number[] = []
  #texts: string[] = []
  #reasons: FinishReason[] = []
  readonly #tokensOf = new Map<number, Tokens>()
  readonly #figures = { ...NO_FIGURES }
  #steps: TraceStep[] = []
  #us = 0
  #moved = false
  /** Until it is in a step. */
  #prompt: Int32Array | undefined

  constructor(prompt: Int32Array) {
    this.#prompt = prompt
  }

  /** `text`: what the token completes. */
  token(branch: number, id: number, text: string): void {
    this.#rows.push(TOKEN, branch, id, 0)
    this.#texts.push(text)
  }

  /** `position`: of [Fork] in the parent's path. `rest`: of the parent's text, a part of a character. */
  fork(parent: number, branch: number, position: number, rest: string): void {
    this.#rows.push(FORK, branch, parent, position)
    this.#texts.push(rest)
  }

  /** `rest`: of the branch's text. */
  end(branch: number, reason: FinishReason, rest: string): void {
    this.#rows.push(END, branch, this.#reasons.push(reason) - 1, 0)
    this.#texts.push(rest)
  }

  /** A row of kind TRACE; the one with the field STEP ends the step. */
  figure(field: number, a: number, b: number): void {
    const figures = this.#figures
    if (field === TRACE_FIELD.ROWS) {
      figures.rows = a
      figures.batch_rows = b
    } else if (field === TRACE_FIELD.BRANCHES) {
      figures.live = a
      figures.sampled = b
    } else if (field === TRACE_FIELD.BLOCKS) {
      figures.blocks = a
      figures.used_blocks = b
    } else if (field === TRACE_FIELD.TOKENS) {
      figures.attended = a
      figures.cached = b
    } else if (field === TRACE_FIELD.DRAFTS) {
      figures.drafted = a
      figures.accepted = b
    } else if (field === TRACE_FIELD.STEP) this.#endStep(a, b)
  }

  /** Steps of a log that this node goes on with: what happened in them was given as for new ones. */
  recorded(steps: readonly TraceStep[]): void {
    for (const { us, tokens, forks, ends } of steps) {
      this.#us = us
      const count = tokens.reduce((sum, { ids }) => sum + ids.length, forks.length + ends.length)
      this.#rows.splice(0, count * WIDTH)
      this.#texts.splice(0, count)
    }
    this.#moved = true
    this.#prompt = undefined
  }

  /** Returns, once, the steps that have ended. */
  take(): TraceStep[] {
    if (this.#steps.length === 0) return NO_STEPS
    const steps = this.#steps
    this.#steps = []
    return steps
  }

  #endStep(number: number, micros: number): void {
    this.#us += micros
    const { drafted, accepted, rows, batch_rows, live, sampled, blocks, used_blocks, cached, attended } =
      this.#figures
    // Written out: a spread costs as much as the rest.
    const step: TraceStep = {
      step: number,
      us: this.#us,
      rows,
      batch_rows,
      live,
      sampled,
      blocks,
      used_blocks,
      cached,
      attended,
      tokens: [],
      forks: [],
      ends: [],
    }
    this.#addEvents(step)
    if (drafted > 0) Object.assign(step, { drafted, accepted })
    if (this.#prompt) step.prompt = [...this.#prompt]
    if (this.#moved) step.moved = true
    this.#steps.push(step)
    Object.assign(this.#figures, NO_FIGURES)
    this.#moved = false
    this.#prompt = undefined
  }

  #addEvents({ tokens, forks, ends }: TraceStep): void {
    const rows = this.#rows
    for (let at = 0, index = 0; at < rows.length; at += WIDTH, index++) {
      const branch = rows[at + 1] ?? 0
      const a = rows[at + 2] ?? 0
      const text = this.#texts[index] ?? ''
      const kind = rows[at]
      if (kind === FORK) forks.push({ branch, parent: a, position: rows[at + 3] ?? 0 })
      else if (kind === END) ends.push({ branch, reason: this.#reasons[a] ?? 'error' })
      if (kind !== TOKEN && text === '') continue
      const given = this.#tokensIn(tokens, kind === FORK ? a : branch)
      if (kind === TOKEN) given.ids.push(a)
      given.text += text
    }
    if (tokens.length > 1) tokens.sort((one, other) => one.branch - other.branch)
    rows.length = this.#texts.length = this.#reasons.length = 0
    this.#tokensOf.clear()
  }

  #tokensIn(tokens: Tokens[], branch: number): Tokens {
    const known = this.#tokensOf.get(branch)
    if (known) return known
    const made: Tokens = { branch, ids: [], text: '' }
    tokens.push(made)
    this.#tokensOf.set(branch, made)
    return made
  }
}

const NO_STEPS: TraceStep[] = []
