import { type Sample, summariseAll } from './summary.ts'

const ROW = 22
const LEFT = 270
const WIDTH = 420
const TOP = 46
const TICKS = [0.5, 1, 2, 4, 8, 16, 32, 64]

/** Draws raw samples as SVG: for every case the median ratio to the peer, its range, and the goal. */
export function plotRatios(samples: readonly Sample[], caption: string): string {
  const figures = summariseAll(samples).flatMap(({ test, rows }) => {
    const row = rows.find(({ unit }) => unit === 'x')
    return row ? [{ ...row, name: test.name, goal: test.goal }] : []
  })
  if (figures.length === 0) throw new Error('the samples contain no peer: there is no ratio to draw')
  const bottom = TOP + figures.length * ROW
  const lines = figures.map(({ name, value, low = value, high = value, goal }, index) => {
    const y = TOP + index * ROW + ROW / 2
    const colour = value >= goal ? '#1a7f37' : '#bc4c00'
    return [
      `<text x="${LEFT - 10}" y="${y + 4}" text-anchor="end">${escapeXml(name)}</text>`,
      `<line x1="${x(low)}" x2="${x(high)}" y1="${y}" y2="${y}" stroke="${colour}" stroke-width="3"/>`,
      `<circle cx="${x(value)}" cy="${y}" r="4.5" fill="${colour}"/>`,
      `<line x1="${x(goal)}" x2="${x(goal)}" y1="${y - 8}" y2="${y + 8}" stroke="#57606a" stroke-width="2"/>`,
      `<text x="${LEFT + WIDTH + 12}" y="${y + 4}">${value.toFixed(2)}x</text>`,
    ].join('')
  })
  const grid = TICKS.map(
    (tick) =>
      `<line x1="${x(tick)}" x2="${x(tick)}" y1="${TOP}" y2="${bottom}" stroke="#d0d7de"/>` +
      `<text x="${x(tick)}" y="${bottom + 16}" text-anchor="middle">${tick}</text>`,
  )
  const [width, height] = [LEFT + WIDTH + 70, bottom + 48]
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="12" fill="#24292f">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="10" y="20" font-size="14">Speed over llama.cpp's: median and range of alternating runs; the bar is the goal</text>`,
    `<text x="10" y="36" fill="#57606a">${escapeXml(caption)}</text>`,
    ...grid,
    ...lines,
    `<text x="${LEFT + WIDTH / 2}" y="${bottom + 36}" text-anchor="middle">times llama.cpp (logarithmic)</text>`,
    '</svg>',
    '',
  ].join('\n')
}

/** Position of a ratio on the logarithmic axis; ratios outside the axis are drawn at its end. */
function x(ratio: number): number {
  const [first = 1] = TICKS
  const last = TICKS.at(-1) ?? first
  const inside = Math.min(Math.max(ratio, first), last)
  return Number((LEFT + (Math.log(inside / first) / Math.log(last / first)) * WIDTH).toFixed(1))
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
