import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Plot, plotPng, plotSvg } from './plot.ts'

/** Writes each plot as FILE.svg and FILE.png into the folder, which is made first. Returns the paths of the SVG files. */
export async function writePlots(
  plots: Iterable<{ readonly file: string; readonly plot: Plot }>,
  folder: string,
): Promise<string[]> {
  mkdirSync(folder, { recursive: true })
  const files: string[] = []
  for (const { file, plot } of plots) {
    const svg = await plotSvg(plot)
    writeFileSync(join(folder, `${file}.svg`), svg)
    writeFileSync(join(folder, `${file}.png`), await plotPng(svg))
    files.push(join(folder, `${file}.svg`))
  }
  return files
}
