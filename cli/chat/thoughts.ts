import { styleText } from 'node:util'
import { printable } from './branch-lines.ts'
import type { Terminal } from './screen.ts'

/** What the model thought, as it stands in front of an answer on a terminal. */
export function thoughts(reasoning: string): string {
  return `Thinking:\n${printable(reasoning).trim()}`
}

/** The end of what a model has thought so far, under a heading: at most `rows` lines of `columns`. */
export function thinkingLines(reasoning: string, columns: number, rows: number): string[] {
  const width = Math.max(1, columns - 1)
  const lines = printable(reasoning)
    .trim()
    .split('\n')
    .flatMap((line) => line.match(new RegExp(`.{1,${width}}`, 'gsu')) ?? [''])
  const room = Math.max(0, rows - 1)
  return ['Thinking …', ...(reasoning === '' || room === 0 ? [] : lines.slice(-room))]
}

/** Dimmed where the terminal has colours and its user has not turned them off. */
export function dim(out: Terminal, text: string): string {
  return out.hasColors?.() ? styleText('dim', text, { validateStream: false }) : text
}
