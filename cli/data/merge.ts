import { log } from '@clack/prompts'
import type { Command } from 'commander'
import { mergeBuilds } from '../../training/data/merge.ts'
import { reportTables } from './build.ts'
import { whileBuilding } from './lock-build.ts'

/** Adds `apar data merge`. */
export function registerMerge(data: Command): void {
  data
    .command('merge')
    .description('joins the parts that apar data build --shard has made')
    .argument('<parts...>', 'the folders of all parts')
    .requiredOption('--out <folder>', 'output folder; a build that is there is replaced')
    .action(async (parts: string[], { out }: { out: string }) => {
      const report = await whileBuilding(out, () => mergeBuilds(parts, out))
      log.success(`${report.conversations} conversations → ${out}`)
      log.message(reportTables(report))
    })
}
