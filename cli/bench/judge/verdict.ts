/** Of a comparison: the answer in place A or B, or a tie. */
export type Choice = 'A' | 'B' | 'tie'

/** The last verdict that the judge wrote, since explanations may quote the others; undefined without one. */
export function choiceIn(judgment: string): Choice | undefined {
  const letter = [...judgment.matchAll(/\[\[([ABC])\]\]/g)].at(-1)?.[1]
  if (letter === 'C') return 'tie'
  return letter === 'A' || letter === 'B' ? letter : undefined
}

/** The last rating from 1 to 10, `[[7]]` or as some judges write it `[7]`; undefined without one. */
export function ratingIn(judgment: string): number | undefined {
  const text =
    [...judgment.matchAll(/\[\[(\d+(?:\.\d+)?)\]\]/g)].at(-1)?.[1] ??
    [...judgment.matchAll(/\[(\d+(?:\.\d+)?)\]/g)].at(-1)?.[1]
  const rating = text === undefined ? Number.NaN : Number(text)
  return rating >= 1 && rating <= 10 ? rating : undefined
}
