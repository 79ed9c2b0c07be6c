import { writeFile } from 'node:fs/promises'
import Table from 'cli-table3'
import { type Command, Option } from 'commander'
import { placesOf, promptLength, type TokenTree } from '../../shared/token-tree.ts'
import { RULES } from '../../training/data/extract/structure.ts'
import {
  EXAMPLE_KINDS,
  type ExampleKind,
  type RefusedRecord,
} from '../../training/data/inspect/build-records.ts'
import {
  refusalOf,
  refusedBy,
  type Sample,
  type Split,
  sampleById,
  sampleByNumber,
  sampleOfKind,
} from '../../training/data/inspect/find-sample.ts'
import { sampleTree } from '../../training/data/inspect/sample-tree.ts'
import { UserError } from '../explain.ts'
import { PLAIN_TABLE, showTable } from '../models/show.ts'
import { integer } from '../options.ts'
import { treePage } from '../token-tree/html.ts'
import { terminalTree } from '../token-tree/terminal.ts'
import { flat } from '../token-tree/visible.ts'

interface Flags {
  number?: number
  kind?: ExampleKind
  refused?: string
  random?: true
  split: Split
  html?: string
  tokens?: true
}

const MAX_REFUSED = 20

/** Adds `apar data inspect`. */
export function registerInspect(data: Command): void {
  data
    .command('inspect')
    .description(
      'one sample of a build as a tree, in the terminal or as a page; or what was left out, and why',
    )
    .argument('<build>', 'folder of a build')
    .argument('[id]', 'id of the conversation (default: the first example of the shards)')
    .option('--number <number>', 'the example with this number in the shards', integer(0, 2 ** 32 - 1))
    .addOption(new Option('--kind <kind>', 'the first conversation of this kind').choices(EXAMPLE_KINDS))
    .option('--refused <rule>', `conversations that this rule refused, ${MAX_REFUSED} at most`)
    .option('--random', 'any example, instead of the first one; also with --kind and --refused')
    .addOption(
      new Option('--split <split>', 'whose shards --number and --random mean')
        .choices(['train', 'test'])
        .default('train'),
    )
    .option('--html <file>', 'write a page where a click on a token shows what it attends to')
    .option('--tokens', 'show each token with its id')
    .action(inspect)
}

async function inspect(build: string, id: string | undefined, flags: Flags): Promise<void> {
  const { number, kind, refused, random } = flags
  const ways = [id, number, kind, refused].filter((way) => way !== undefined)
  if (ways.length > 1 || (random && (id ?? number) !== undefined)) {
    throw new UserError(
      'invalid_option',
      'give one of ID, --number, --kind and --refused; --random is for the last two',
    )
  }
  if (refused !== undefined) {
    if (flags.html) throw new UserError('invalid_option', '--html: refused conversations have no tree')
    process.stdout.write(await refusedReport(build, refused, random === true))
    return
  }
  const sample =
    id !== undefined
      ? ((await sampleById(build, id)) ?? (await explainMissing(build, id)))
      : kind !== undefined
        ? ((await sampleOfKind(build, kind, random === true)) ??
          none(`${build} has no conversation of kind ${kind}`))
        : await sampleByNumber(build, flags.split, random ? 'random' : (number ?? 0))
  const tree = treeOf(sample)
  if (flags.html !== undefined) {
    await writeFile(flags.html, treePage(tree))
    process.stdout.write(`${flags.html}\n`)
    return
  }
  const { stdout } = process
  const options = { columns: stdout.columns, colours: stdout.isTTY && stdout.hasColors() }
  stdout.write(terminalTree(tree, { ...options, tokens: flags.tokens === true }))
}

export function treeOf({ split, record, example, segments }: Sample): TokenTree {
  const places = placesOf(segments)
  const tokens = segments.reduce((sum, own) => sum + own.tokens.length, 0)
  const longest = segments.reduce(
    (most, own, at) => Math.max(most, (places[at]?.start ?? 0) + own.tokens.length),
    0,
  )
  const branches = new Set(segments.map(({ branch }) => branch)).size
  const inShards = `example ${example?.number}, conversation ${example?.source}, ${example?.kind}`
  const facts: [string, string][] = [
    ...(record ? [['kind', record.kind] as [string, string]] : []),
    ['split', split],
    ['shards', example ? inShards : 'not in the shards: shown as text'],
  ]
  if (example) {
    facts.push([
      'tokens',
      `${tokens}, of which the prompt has ${promptLength(segments)}; the longest path has ${longest}`,
    ])
  }
  facts.push(['branches', String(branches)])
  return sampleTree(record?.id ?? `example ${example?.number} of ${split}`, facts, segments)
}

async function explainMissing(build: string, id: string): Promise<never> {
  const refusal = await refusalOf(build, id)
  if (!refusal) return none(`${build} has no conversation ${JSON.stringify(id)}`)
  const line = refusal.line === undefined ? '' : ` (line ${refusal.line} of the input)`
  return none(`${JSON.stringify(id)} was left out${line}: ${refusal.rule}: ${flat(refusal.reason)}`)
}

async function refusedReport(build: string, rule: string, random: boolean): Promise<string> {
  const { count, records } = await refusedBy(build, rule, MAX_REFUSED, random)
  const sentence = sentenceOf(rule, records)
  if (sentence === undefined) {
    return none(
      `no conversation was refused by ${JSON.stringify(rule)}; rules: ${Object.keys(RULES).join(', ')}`,
    )
  }
  const table = new Table({
    ...PLAIN_TABLE,
    head: ['id', 'line', 'reason'],
    colAligns: ['left', 'right', 'left'],
  })
  for (const { id, line, reason } of records) table.push([flat(id), line ?? '', flat(reason)])
  const more = count > records.length ? `\n... ${count - records.length} more` : ''
  return `${rule}: ${sentence}\n${count} conversations\n\n${records.length > 0 ? showTable(table) : ''}${more}\n`
}

/** Undefined for what is neither a rule nor a reason in refused.jsonl. */
function sentenceOf(rule: string, records: readonly RefusedRecord[]): string | undefined {
  if (Object.hasOwn(RULES, rule)) return RULES[rule as keyof typeof RULES]
  return records[0] && flat(records[0].reason)
}

function none(message: string): never {
  throw new UserError('invalid_option', message)
}
