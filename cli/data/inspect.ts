import { writeFile } from 'node:fs/promises'
import Table from 'cli-table3'
import { type Command, Option } from 'commander'
import { placesOf, promptLength, type TokenTree } from '../../shared/token-tree.ts'
import { SAMPLE_KINDS, type SampleKind } from '../../training/data/inspect/build-records.ts'
import { buildRules } from '../../training/data/inspect/build-statistics.ts'
import {
  leftOutBy,
  refusalOf,
  type Sample,
  sampleById,
  sampleByNumber,
  sampleOfKind,
} from '../../training/data/inspect/find-sample.ts'
import { SPLITS, type Split } from '../../training/data/pipeline/batch.ts'
import { UserError } from '../explain.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { PLAIN_TABLE, showTable } from '../models/show.ts'
import { integer } from '../options.ts'
import { saying } from '../progress.ts'
import { treePage } from '../token-tree/html.ts'
import { terminalTree } from '../token-tree/terminal.ts'
import { flat } from '../token-tree/visible.ts'
import { requireBuild } from './require-build.ts'

interface Flags extends JsonFlag {
  number?: number
  kind?: SampleKind
  refused?: string
  random?: true
  split?: Split
  html?: string
  tokens?: true
}

const MOST_REFUSED = 20

/** Adds `apar data inspect`. */
export function registerInspect(data: Command): void {
  withJson(data.command('inspect'))
    .description(
      'one sample of a build as a tree, in the terminal or as a page; or what was left out, and why',
    )
    .argument('<build>', 'folder of a build')
    .argument('[id]', 'id of the conversation (default: the first example of the shards)')
    .option('--number <number>', 'the example with this number in the shards', integer(0, 2 ** 32 - 1))
    .addOption(new Option('--kind <kind>', 'the first conversation of this kind').choices(SAMPLE_KINDS))
    .option('--refused <rule>', `conversations that were left out by this rule, ${MOST_REFUSED} at most`)
    .option('--random', 'any example instead of the first one; also with --kind and --refused')
    .addOption(
      new Option('--split <split>', 'which shards --number and --random mean (default: train)').choices(
        SPLITS,
      ),
    )
    .option('--html <file>', 'write a page where a click on a token shows what it attends to')
    .option('--tokens', 'show each token with its id')
    .action(inspect)
}

async function inspect(build: string, id: string | undefined, flags: Flags): Promise<void> {
  const { number, kind, refused, random, html, split, tokens } = flags
  requireBuild(build)
  const ways = [id, number, kind, refused].filter((way) => way !== undefined)
  if (ways.length > 1 || (random && (id ?? number) !== undefined)) {
    refuse('give one of ID, --number, --kind and --refused; --random goes with the last two')
  }
  if (split && (id ?? kind ?? refused) !== undefined) refuse('--split is for --number and --random')
  if (tokens && (html ?? refused) !== undefined) refuse('--tokens is for trees in the terminal')
  if (refused !== undefined) {
    if (html !== undefined) refuse('--html: conversations that were left out have no tree')
    const found = await refusedBy(build, refused, random === true)
    print(flags, found, () => refusedReport(found))
    return
  }
  const tree = treeOf(await saying('searching', findSample(build, id, flags)))
  if (html !== undefined) {
    await writeFile(html, treePage(tree))
    print(flags, { html }, () => html)
    return
  }
  if (flags.json) return console.log(JSON.stringify(tree))
  const { stdout } = process
  // It knows NO_COLOR and FORCE_COLOR.
  const colours = stdout.isTTY && stdout.hasColors()
  const options = { columns: stdout.columns, colours, tokens: tokens === true }
  stdout.write(terminalTree(tree, options))
}

async function findSample(build: string, id: string | undefined, flags: Flags): Promise<Sample> {
  const { number = 0, kind, random, split = 'train' } = flags
  if (id !== undefined) return (await sampleById(build, id)) ?? explainMissing(build, id)
  if (kind === undefined) return sampleByNumber(build, split, random ? 'random' : number)
  return (
    (await sampleOfKind(build, kind, random === true)) ??
    refuse(`${build} has no conversation of kind ${kind}`)
  )
}

export function treeOf({ split, record, example, segments }: Sample): TokenTree {
  const places = placesOf(segments)
  const ends = segments.map(({ tokens }, index) => (places[index]?.start ?? 0) + tokens.length)
  const longest = ends.reduce((most, end) => Math.max(most, end), 0)
  const tokens = segments.reduce((sum, segment) => sum + segment.tokens.length, 0)
  const { number, source, kind } = example
  return {
    title: record?.id ?? `example ${number} of ${split}`,
    facts: [
      ['kind', record?.kind ?? kind],
      ['example', `${number} of ${split}, from record ${source} of the input`],
      [
        'tokens',
        `${tokens}, of which the prompt has ${promptLength(segments)}; the longest path has ${longest}`,
      ],
      ['branches', String(new Set(segments.map(({ branch }) => branch)).size)],
    ],
    words: { written: 'learned', given: 'masked' },
    segments,
  }
}

async function explainMissing(build: string, id: string): Promise<never> {
  const refusal = await refusalOf(build, id)
  if (!refusal) return refuse(`${build} has no conversation ${JSON.stringify(id)}`)
  const { rule, reason, file, line } = refusal
  const where = line === undefined ? '' : ` (${file ?? 'line'}:${line})`
  return refuse(`${JSON.stringify(id)} was left out: ${rule}: ${flat(reason)}${flat(where)}`)
}

async function refusedBy(build: string, rule: string, random: boolean) {
  const { count, records } = await leftOutBy(build, rule, MOST_REFUSED, random)
  const sentence = buildRules[rule] ?? records[0]?.reason
  if (sentence === undefined)
    refuse(`there is no rule ${JSON.stringify(rule)}; rules: ${Object.keys(buildRules).join(', ')}`)
  return { rule, sentence, count, records }
}

function refusedReport({ rule, sentence, count, records }: Awaited<ReturnType<typeof refusedBy>>): string {
  const lines = [`${rule}: ${flat(sentence)}`, `left out: ${count}`]
  if (count === 0) return lines.join('\n')
  const table = new Table({ ...PLAIN_TABLE, head: ['id', 'where', 'reason'] })
  for (const { id, file = '', line, reason } of records) {
    table.push([
      flat(id),
      flat(line === undefined ? file : `${file}:${line}`),
      reason === sentence ? '' : flat(reason),
    ])
  }
  const more = count > records.length ? [`... ${count - records.length} more`] : []
  return [...lines, '', showTable(table), ...more].join('\n')
}

function refuse(message: string): never {
  throw new UserError('invalid_option', message)
}
