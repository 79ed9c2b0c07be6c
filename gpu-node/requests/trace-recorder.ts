import type { FinishReason } from '../../shared/protocol/events.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'
import { TRACE_FIELD } from '../engine/engine-events.ts'
import { BranchDecoder } from '../text/branch-decoder.ts'
import type { TokenBytes } from '../text/token-bytes.ts'

type Happened =
  | { readonly kind: 'token'; readonly branch: number; readonly id: number }
  | { readonly kind: 'fork'; readonly branch: number; readonly parent: number; readonly position: number }
  | { readonly kind: 'end'; readonly branch: number; readonly reason: FinishReason }

type Figures = Omit<TraceStep, 'step' | 'us' | 'tokens' | 'forks' | 'ends' | 'prompt' | 'moved'>

const NO_FIGURES: Figures = {
  ...{ rows: 0, batch_rows: 0, live: 0, sampled: 0, blocks: 0, used_blocks: 0, cached: 0, attended: 0 },
}

/** Puts the engine's events of a traced request together to steps: what happened, and the figures that end the step. */
export class TraceRecorder {
  readonly #bytes: TokenBytes
  readonly #texts: Map<number, BranchDecoder>
  /** Since the last step. */
  #happened: Happened[] = []
  #figures: Figures = { ...NO_FIGURES }
  #steps: TraceStep[] = []
  #us = 0
  #moved = false
  /** Until it is in a step. */
  #prompt: Int32Array | undefined

  constructor(prompt: Int32Array, bytes: TokenBytes, dropsLeadingSpace: boolean) {
    this.#prompt = prompt
    this.#bytes = bytes
    this.#texts = new Map([[0, new BranchDecoder(bytes, dropsLeadingSpace)]])
  }

  token(branch: number, id: number): void {
    this.#happened.push({ kind: 'token', branch, id })
  }

  /** `position`: of [Fork] in the parent's path. */
  fork(parent: number, branch: number, position: number): void {
    this.#happened.push({ kind: 'fork', branch, parent, position })
  }

  end(branch: number, reason: FinishReason): void {
    this.#happened.push({ kind: 'end', branch, reason })
  }

  /** A row of kind TRACE; the one with the field STEP ends the step. */
  figure(field: number, a: number, b: number): void {
    const figures = this.#figures
    if (field === TRACE_FIELD.ROWS) Object.assign(figures, { rows: a, batch_rows: b })
    else if (field === TRACE_FIELD.BRANCHES) Object.assign(figures, { live: a, sampled: b })
    else if (field === TRACE_FIELD.BLOCKS) Object.assign(figures, { blocks: a, used_blocks: b })
    else if (field === TRACE_FIELD.TOKENS) Object.assign(figures, { attended: a, cached: b })
    else if (field === TRACE_FIELD.DRAFTS) Object.assign(figures, { drafted: a, accepted: b })
    else if (field === TRACE_FIELD.STEP) this.#endStep(a, b)
  }

  /** Steps of a log that this node goes on with: what happened in them was given as for new ones. */
  recorded(steps: readonly TraceStep[]): void {
    for (const { us, tokens, forks, ends } of steps) {
      this.#us = us
      const count = tokens.reduce((sum, { ids }) => sum + ids.length, forks.length + ends.length)
      for (const each of this.#happened.splice(0, count)) this.#textOf(each)
    }
    this.#moved = true
    this.#prompt = undefined
  }

  /** Returns, once, the steps that have ended. */
  take(): TraceStep[] {
    const steps = this.#steps
    this.#steps = []
    return steps
  }

  #endStep(step: number, micros: number): void {
    this.#us += micros
    const tokens = new Map<number, { branch: number; ids: number[]; text: string }>()
    const forks: TraceStep['forks'] = []
    const ends: TraceStep['ends'] = []
    for (const each of this.#happened) {
      const { branch } = each
      if (each.kind === 'fork') {
        const { parent, position } = each
        forks.push({ branch, parent, position })
      } else if (each.kind === 'end') ends.push({ branch, reason: each.reason })
      const text = this.#textOf(each)
      // Of a fork, the rest of the parent's text.
      const of = each.kind === 'fork' ? each.parent : branch
      const known = tokens.get(of)
      if (known) known.text += text
      if (each.kind !== 'token') continue
      if (known) known.ids.push(each.id)
      else tokens.set(of, { branch: of, ids: [each.id], text })
    }
    const moved = this.#moved && { moved: true as const }
    const prompt = this.#prompt && { prompt: [...this.#prompt] }
    this.#steps.push({
      ...{ step, us: this.#us, ...this.#figures },
      tokens: [...tokens.values()].sort((a, b) => a.branch - b.branch),
      ...{ forks, ends, ...prompt, ...moved },
    })
    this.#happened = []
    this.#figures = { ...NO_FIGURES }
    this.#moved = false
    this.#prompt = undefined
  }

  /** The text that it completes: at a fork and at an end, what is left of a character. */
  #textOf(each: Happened): string {
    if (each.kind === 'token') return this.#decoder(each.branch).push(each.id)
    return this.#decoder(each.kind === 'fork' ? each.parent : each.branch).flush()
  }

  #decoder(branch: number): BranchDecoder {
    const known = this.#texts.get(branch)
    if (known) return known
    const made = new BranchDecoder(this.#bytes)
    this.#texts.set(branch, made)
    return made
  }
}
