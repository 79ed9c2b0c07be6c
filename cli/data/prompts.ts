import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { makePrompts } from '../../training/data/prompts/make-prompts.ts'
import { readPrompts } from '../../training/data/prompts/read-prompts.ts'
import { readTemplates } from '../../training/data/prompts/templates.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { integer } from '../options.ts'

interface PromptsFlags extends JsonFlag {
  out: string
  count: number
  seed: number
  templates: string
  avoid: string[]
}

/** Adds `apar data prompts`. */
export function registerPrompts(data: Command): void {
  withJson(data.command('prompts'))
    .description('makes prompts from templates, for apar data answer: JSONL of {id, group, shape, prompt}')
    .requiredOption('--out <file>', 'where to write them, for example work/prompts.jsonl')
    .option('--count <n>', 'how many', integer(1, 1_000_000), 6600)
    .option('--seed <number>', 'of the draws', integer(0, 2 ** 32 - 1), 1)
    .option(
      '--templates <folder>',
      'folder of *.json with slots and groups',
      join(packageRoot, 'training/data/prompts/templates'),
    )
    .option('--avoid <files...>', 'prompts (JSONL) of evaluations: none that is like one of them is made', [])
    .action(prompts)
}

async function prompts(flags: PromptsFlags): Promise<void> {
  const { out, count, seed, templates, avoid: files } = flags
  const avoid: string[] = []
  for (const file of files)
    for await (const { messages } of readPrompts(file)) avoid.push(...messages.map(({ content }) => content))
  const made = makePrompts(readTemplates(templates), { count, seed, avoid })
  mkdirSync(dirname(out), { recursive: true })
  const aside = `${out}.partial`
  writeFileSync(aside, made.prompts.map((prompt) => `${JSON.stringify(prompt)}\n`).join(''))
  renameSync(aside, out)
  const lists = made.prompts.filter(({ shape }) => shape === 'list').length
  const { nearDuplicates, avoided } = made
  print(flags, { out, prompts: made.prompts.length, lists, nearDuplicates, avoided }, () =>
    [
      `${made.prompts.length} prompts → ${out}: ${lists} ask for a list, ${count - lists} do not`,
      `left out: ${nearDuplicates} near-duplicates, ${avoided} like one of --avoid`,
    ].join('\n'),
  )
}
