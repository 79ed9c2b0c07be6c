import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { Drafts } from '../../shared/protocol/speculation.ts'
import { element } from './elements.ts'

/** Measurements of one run, made in the page. Times in ms since Send. */
export interface Figures {
  firstTextMs: number | undefined
  elapsedMs: number
  /** Before the `done` event: the number of deltas, which is about the same. */
  tokens: number
  tokensAreExact: boolean
  branches: number
  liveBranches: number
  /** Tokens that speculation drafted; undefined when there were none. */
  drafts: Drafts | undefined
}

/** Counts one run's events, and shows its figures on the page. */
export class FiguresView {
  readonly figures: Figures = {
    firstTextMs: undefined,
    elapsedMs: 0,
    tokens: 0,
    tokensAreExact: false,
    branches: 1,
    liveBranches: 1,
    drafts: undefined,
  }
  readonly #started = performance.now()
  readonly #list: HTMLElement
  readonly #timer: ReturnType<typeof setInterval>

  constructor(list: HTMLElement) {
    this.#list = list
    this.#timer = setInterval(() => this.#render(), 100)
    this.#render()
  }

  count(event: StreamEvent): void {
    const { figures } = this
    if (event.type === 'fork') {
      figures.branches++
      figures.liveBranches++
    } else if (event.type === 'branch_end') {
      figures.liveBranches--
    } else if (event.type === 'delta') {
      figures.firstTextMs ??= performance.now() - this.#started
      figures.tokens++
    } else if (event.type === 'done') {
      figures.tokens = event.usage.completion_tokens
      figures.tokensAreExact = true
      figures.drafts = event.usage.apar?.speculation
    }
  }

  /** Call at the end of the run: stops the clock. */
  stop(): Figures {
    clearInterval(this.#timer)
    this.figures.liveBranches = 0
    this.#render()
    return this.figures
  }

  #render(): void {
    const { figures } = this
    figures.elapsedMs = performance.now() - this.#started
    const about = figures.tokensAreExact || figures.tokens === 0 ? '' : '≈ '
    const growing = figures.liveBranches > 0 ? ` (${figures.liveBranches} growing)` : ''
    const shown = [
      ['First text', formatMs(figures.firstTextMs)],
      ['Elapsed', formatMs(figures.elapsedMs)],
      ['Tokens', `${about}${figures.tokens}`],
      ['Tokens/s', formatRate(figures)],
      ['Branches', `${figures.branches}${growing}`],
      ...(figures.drafts ? [['Drafts accepted', formatDrafts(figures.drafts)] as const] : []),
    ] as const
    this.#list.replaceChildren(
      ...shown.map(([name, value]) => {
        const group = element('div')
        group.append(element('dt', '', name), element('dd', '', value))
        return group
      }),
    )
  }
}

export function formatMs(ms: number | undefined): string {
  if (ms === undefined) return '–'
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`
}

export function formatRate({ tokens, elapsedMs }: Figures): string {
  return tokens === 0 ? '–' : (tokens / (elapsedMs / 1000)).toFixed(0)
}

function formatDrafts({ drafted, accepted }: Drafts): string {
  return `${accepted} of ${drafted} (${Math.round((100 * accepted) / drafted)} %)`
}
