import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Config, TopLevelSpec } from 'vega-lite'
import { UserError } from '../explain.ts'

/** A plot as vega-lite describes it. */
export type Plot = TopLevelSpec

/** The font of PNG files, which are drawn without those of the system: a server may have none. */
const FONT = {
  family: 'Lato',
  package: '@expo-google-fonts/lato/package.json',
  file: '400Regular/Lato_400Regular.ttf',
}

const CONFIG: Config = {
  background: 'white',
  font: `${FONT.family}, sans-serif`,
  padding: 12,
  title: { anchor: 'start', fontSize: 16, offset: 12 },
  axis: { labelFontSize: 12, labelLimit: 400, titleFontSize: 13, titleFontWeight: 'normal' },
  legend: { labelFontSize: 12, titleFontSize: 13, labelLimit: 400 },
  view: { stroke: 'transparent' },
  range: { category: ['#1f6f54', '#d98a29', '#4b6cb7', '#a23b52', '#7a7f87'] },
  bar: { color: '#1f6f54' },
  line: { color: '#1f6f54' },
}

/** The packages are loaded with the first plot: other commands do not wait for them. */
export async function plotSvg(plot: Plot): Promise<string> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')])
  const view = new vega.View(vega.parse(compile(plot, { config: CONFIG }).spec), { renderer: 'none' })
  try {
    return await view.toSVG()
  } finally {
    view.finalize()
  }
}

/** An SVG as PNG, with twice as many pixels. */
export async function plotPng(svg: string): Promise<Uint8Array> {
  const { Resvg, folder } = await pngPackages()
  const font = {
    loadSystemFonts: false,
    fontFiles: [join(folder, FONT.file)],
    defaultFontFamily: FONT.family,
    sansSerifFamily: FONT.family,
  }
  return new Resvg(svg, { fitTo: { mode: 'zoom', value: 2 }, font }).render().asPng()
}

/** What draws PNG files. An installation may be without it: it takes 6 MB. @throws UserError `package_missing` */
async function pngPackages() {
  try {
    const { Resvg } = await import('@resvg/resvg-js')
    return { Resvg, folder: dirname(createRequire(import.meta.url).resolve(FONT.package)) }
  } catch (error) {
    if (error instanceof Error && 'code' in error && /MODULE_NOT_FOUND$/.test(String(error.code)))
      throw new UserError(
        'package_missing',
        'PNG files need two packages beside apar: npm install @resvg/resvg-js @expo-google-fonts/lato; SVG files need none',
      )
    throw error
  }
}
