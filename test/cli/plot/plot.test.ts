import { describe, expect, it } from 'vitest'
import { plotPng, plotSvg } from '../../../cli/plot/plot.ts'

const plot = {
  title: 'Forks & branches',
  data: {
    values: [
      { name: 'a', count: 3 },
      { name: '<b>', count: 5 },
    ],
  },
  mark: 'bar',
  encoding: { x: { field: 'name', type: 'nominal' }, y: { field: 'count', type: 'quantitative' } },
} as const

describe('a plot', () => {
  it('is an SVG with a light background and its texts', async () => {
    const svg = await plotSvg(plot)
    expect(svg).toMatch(/^<svg /)
    expect(svg).toContain('Forks &amp; branches')
    expect(svg).toContain('&lt;b&gt;')
    expect(svg).toMatch(/<rect width="\d+" height="\d+" fill="white"\/>/)
    expect(svg).not.toMatch(/href=|@import|url\(http/)
  })

  it('is a PNG of twice the size, whose texts are drawn without fonts of the system', async () => {
    const svg = await plotSvg(plot)
    const png = Buffer.from(await plotPng(svg))
    expect(png.subarray(1, 4).toString()).toBe('PNG')
    expect(png.readUInt32BE(16)).toBe(2 * Number(/width="(\d+)"/.exec(svg)?.[1]))
    // Any family is drawn in our font; without one, text would leave no trace.
    const drawn = async (text: string) =>
      Buffer.from(
        await plotPng(
          `<svg xmlns="http://www.w3.org/2000/svg" width="80" height="20"><text y="15" font-family="Unheard Of">${text}</text></svg>`,
        ),
      )
    const empty = await drawn('')
    for (const text of ['a', '0', 'é', '–']) expect((await drawn(text)).equals(empty)).toBe(false)
  })
})
