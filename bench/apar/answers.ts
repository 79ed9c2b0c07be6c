import { z } from 'zod'

/** What it needs of a line of the samples (`bench/results/apar-….jsonl`). */
const Sample = z.object({
  id: z.union([z.string(), z.number()]),
  prompt: z.string(),
  parallel: z.object({ text: z.string(), reason: z.string() }),
  verdict: z.object({
    forks: z.int(),
    repeatedTitles: z.int(),
    problems: z.array(z.string()),
  }),
})
type Sample = z.infer<typeof Sample>

const SHOWN = 10
const WORST = 3

/**
 * Markdown of answers as they are: the first ten that fork, whatever they are like, and the three worst of all, in the
 * order of the prompts. `lines`: of a file of samples.
 */
export function answersPage(lines: readonly string[]): string {
  const all = lines.map((line) => Sample.parse(JSON.parse(line)))
  const first = all.filter(({ verdict }) => verdict.forks > 0).slice(0, SHOWN)
  const worst = new Set(all.toSorted((a, b) => badness(b) - badness(a)).slice(0, WORST))
  return [
    '# Answers as they are',
    `\nGreedy, with forks, of ${all.length} first questions. Made by \`npm run -s bench -- answers SAMPLES\`.`,
    `\n## The first ${first.length} that fork`,
    ...first.map(section),
    `\n## The ${worst.size} worst of all`,
    ...all.filter((sample) => worst.has(sample)).map(section),
    '',
  ].join('\n')
}

/** What does not end is worst, then what is broken in form, then what repeats itself. */
function badness({ parallel, verdict }: Sample): number {
  const endless = parallel.reason === 'stop' ? 0 : 1
  return 100 * endless + 10 * verdict.problems.length + verdict.repeatedTitles
}

function section({ id, prompt, parallel, verdict }: Sample): string {
  const { forks, repeatedTitles, problems } = verdict
  const faults = [
    ...problems,
    ...(repeatedTitles > 0 ? [`titles that are there before: ${repeatedTitles}`] : []),
    ...(parallel.reason === 'stop' ? [] : ['ends at the limit']),
  ]
  const facts = [`forks: ${forks}`, ...faults].join('; ')
  return `\n### ${id}\n${fenced(prompt)}\n\n${fenced(parallel.text)}\n\n*${facts}*`
}

/** With more backticks than the text has anywhere. */
function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length))
  const fence = '`'.repeat(longest + 1)
  return `${fence}text\n${text}\n${fence}`
}
