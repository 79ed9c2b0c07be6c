import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { gzipSync } from 'node:zlib'
import { z } from 'zod'
import { plotSvg } from '../../cli/plot/plot.ts'
import { parse, parseJsonText } from '../../shared/parse.ts'
import { BenchCase, isMet } from '../report.ts'
import { batchPlots, CellLine, type NamedPlot, NodeLine, partPlots } from './plots.ts'

const Run = z.looseObject({
  ...{ type: z.literal('run'), commit: z.string(), machine: z.string() },
  ...{ parts: z.array(z.string()), options: z.array(z.string()) },
  ...{ model: z.string().optional(), answers: z.string().optional() },
})
type Run = z.infer<typeof Run>
const CaseLine = BenchCase.extend({ type: z.literal('case'), part: z.string() })
type CaseLine = z.infer<typeof CaseLine>
const Line = z.looseObject({ type: z.string() })

/** What the parts measure, for people who have not read the bench. */
const TITLES: Readonly<Record<string, string>> = {
  'low-load': 'One request at a time',
  saturation: 'All at once, with KV memory for few',
  concurrency: 'Many in flight, with KV memory for all',
  deadline: 'Deadlines: which forks are refused',
  recorder: 'Traces',
  'in-flight': 'More requests than the memory holds',
  demo: 'The demo model through a whole server',
}

/**
 * Writes PAGE.md about the samples of a run, the plots of its parts and the samples themselves beside it, as
 * PAGE-PART.svg and PAGE.jsonl.gz.
 * @throws Error for samples of another bench, or of a run that did not end.
 */
export async function writePage(samples: string, page: string): Promise<void> {
  const text = readFileSync(samples, 'utf8')
  const lines = text.trimEnd().split('\n').map(parseJsonText)
  const of = <T>(type: string, schema: z.ZodType<T>): T[] =>
    lines.filter((line) => parse(Line, line).type === type).map((line) => parse(schema, line))
  const [run] = of('run', Run)
  const cases = of('case', CaseLine)
  if (!run || cases.length === 0) throw new Error(`${samples} has no figures of bench serving`)
  const base = page.replace(/\.md$/, '')
  // A line for each request has a part, too.
  const cells = lines.flatMap((line) => CellLine.safeParse(line).data ?? [])
  const readings = lines.flatMap((line) => NodeLine.safeParse(line).data ?? [])
  const subtitle = `${run.answers}; ${run.machine}; commit ${run.commit}`
  const plots = [...partPlots(cells, subtitle), ...batchPlots(readings, subtitle)]
  for (const { name, plot } of plots) writeFileSync(`${base}-${name}.svg`, await plotSvg(plot))
  writeFileSync(`${base}.jsonl.gz`, gzipSync(text))
  writeFileSync(page, pageText(run, cases, { name: basename(base), plots }))
}

export function pageText(
  run: Pick<Run, 'parts' | 'options' | 'commit' | 'machine' | 'model' | 'answers'>,
  cases: readonly CaseLine[],
  { name, plots }: { readonly name: string; readonly plots: readonly Pick<NamedPlot, 'part' | 'name'>[] },
): string {
  const date = /^\d{4}-\d\d-\d\d/.exec(name)?.[0]
  const command = (...parts: string[]) =>
    `\`${['npm run -s bench -- serving', ...parts, ...run.options].join(' ')}\``
  const parts = [...new Set(cases.map(({ part }) => part))]
  const replayed = run.model === undefined ? [] : [`Replays: ${run.answers}, on ${run.model}.`]
  return [
    `# ${date === undefined ? 'Parallel decoding under load' : `${date}, parallel decoding under load`}`,
    '',
    `${command(...run.parts)}, commit ${run.commit},`,
    `on ${run.machine}.`,
    ...replayed,
    'Values are medians, with the least and the most of the repetitions; ratios are of runs that followed each other.',
    `[Samples](${name}.jsonl.gz).`,
    ...parts.flatMap((part) => [
      '',
      `## ${TITLES[part] ?? part}`,
      command(part),
      '',
      '| | value | spread | goal | met |',
      '|---|---|---|---|---|',
      ...cases.filter((row) => row.part === part).map(row),
      ...plots
        .filter((plot) => plot.part === part)
        .flatMap((plot) => ['', `![${TITLES[part] ?? part}](${name}-${plot.name}.svg)`]),
    ]),
    '',
  ].join('\n')
}

function row(line: CaseLine): string {
  const { case: name, value, unit, better, goal, low = value, high = value } = line
  const spread = low === high ? '' : `${low} – ${high}`
  const cells = [name, `${value} ${unit}`, spread, goal === null ? '' : `${sign(better)} ${goal}`]
  return `| ${[...cells, goal === null ? '' : isMet(line) ? 'yes' : 'no'].join(' | ')} |`
}

function sign(better: BenchCase['better']): string {
  return better === 'higher' ? '≥' : '≤'
}
