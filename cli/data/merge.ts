import { log } from '@clack/prompts'
import type { Command } from 'commander'
import { mergeBuilds } from '../../training/data/merge.ts'
import { type JsonFlag, withJson } from '../json.ts'
import { saying } from '../progress.ts'
import { reportTables } from './build.ts'
import { whileBuilding } from './lock-build.ts'

/** Adds `apar data merge`. */
export function registerMerge(data: Command): void {
  withJson(data.command('merge'))
    .description('joins the parts that apar data build --shard has made')
    .argument('<parts...>', 'the folders of all parts')
    .requiredOption('--out <folder>', 'output folder; a build that is there is replaced')
    .action(async (parts: string[], flags: JsonFlag & { out: string }) => {
      const { out } = flags
      const report = await saying(
        'merging',
        whileBuilding(out, () => mergeBuilds(parts, out)),
      )
      if (flags.json) return console.log(JSON.stringify(report))
      log.success(`${report.conversations} conversations → ${out}`)
      log.message(reportTables(report))
    })
}
