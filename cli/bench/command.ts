import type { Command } from 'commander'
import { registerJudge } from './judge/command.ts'
import { registerServing } from './serving/command.ts'
import { registerBenchReport } from './serving/report/command.ts'

/** Adds `apar bench` and its commands. */
export function registerBench(program: Command): void {
  const bench = program
    .command('bench')
    .description('measures servers under load, and lets a model judge answers')
  registerServing(bench)
  registerBenchReport(bench)
  registerJudge(bench)
}
