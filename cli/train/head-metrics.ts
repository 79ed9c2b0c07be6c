import { ends, type RunLog } from './run-log.ts'

/** How many of a head's likeliest tokens count: as the trainer's (model/heads.py). */
export const TOP = [1, 2, 3, 5, 7, 10] as const

export const accuracyName = (head: number, k: number) => `held_out_head_${head}_top_${k}`

/** How many Medusa heads a run trains; 0 for one of another kind. */
export function headsOf({ series }: RunLog): number {
  let heads = 0
  while (series.has(`head_${heads}_loss`)) heads++
  return heads
}

/** Of each head the last accuracy among 1 to 10 tokens; undefined where there was no held-out data. */
export function lastAccuracies(log: RunLog): number[][] | undefined {
  const heads = Array.from({ length: headsOf(log) }, (_, head) =>
    TOP.map((k) => ends(log, accuracyName(head, k))?.last ?? Number.NaN),
  )
  return heads.length === 0 || heads.flat().some(Number.isNaN) ? undefined : heads
}
