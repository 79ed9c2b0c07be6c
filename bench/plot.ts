import { readFileSync } from 'node:fs'
import { parseJson } from '../shared/parse.ts'
import { plotRatios } from './engine/plot.ts'
import { Sample } from './engine/summary.ts'

/** Writes an SVG of the engine's raw samples (a .jsonl of bench/results or docs/results) to standard output. */
export function plot(file: string): void {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  const samples = lines.map((line) => parseJson(Sample, line))
  process.stdout.write(plotRatios(samples, `${samples[0]?.machine}; commit ${samples[0]?.commit}`))
}
