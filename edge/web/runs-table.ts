import { byId, element } from './elements.ts'
import { type Figures, formatMs, formatRate } from './figures.ts'

const SHOWN = 8

/** Adds a finished run, newest first, to compare parallel and serial decoding. */
export function addRun(prompt: string, parallel: boolean, figures: Figures): void {
  const section = byId('runs', HTMLElement)
  const body = section.querySelector('tbody')
  if (!body) return
  const cells = [
    prompt,
    parallel ? 'parallel' : 'serial',
    formatMs(figures.firstTextMs),
    formatMs(figures.elapsedMs),
    String(figures.tokens),
    String(figures.branches),
    formatRate(figures),
  ]
  const row = element('tr')
  row.append(...cells.map((text) => element('td', '', text)))
  body.prepend(row)
  while (body.rows.length > SHOWN) body.deleteRow(-1)
  section.hidden = false
}
