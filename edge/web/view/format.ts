import type { Figures } from '../answer/recording.ts'

export function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`
}

/** Tokens per second. */
export function formatRate(tokens: number, ms: number): string {
  const rate = ms > 0 ? (1000 * tokens) / ms : 0
  return `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : noun.endsWith('ch') ? 'es' : 's'}`
}

/** The line below an answer. */
export function figuresLine(figures: Figures, elapsedMs: number): string[] {
  const { tokens, exact, firstTextMs, branches, liveBranches, usage } = figures
  const about = exact || tokens === 0 ? '' : '≈ '
  const growing = liveBranches > 0 && branches > 1 ? ` (${liveBranches} growing)` : ''
  const drafts = usage?.apar?.speculation
  return [
    `${about}${plural(tokens, 'token')}`,
    ...(tokens > 0 ? [formatRate(tokens, elapsedMs)] : []),
    formatMs(elapsedMs),
    ...(firstTextMs === undefined ? [] : [`first text ${formatMs(firstTextMs)}`]),
    `${plural(branches, 'branch')}${growing}`,
    ...(drafts && drafts.drafted > 0
      ? [
          `drafts accepted ${drafts.accepted} of ${drafts.drafted} (${Math.round((100 * drafts.accepted) / drafts.drafted)} %)`,
        ]
      : []),
  ]
}
