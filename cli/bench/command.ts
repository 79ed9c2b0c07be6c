import type { Command } from 'commander'
import { registerServing } from './serving/command.ts'

/** Adds `apar bench` and its commands. */
export function registerBench(program: Command): void {
  const bench = program.command('bench').description('measures servers under load')
  registerServing(bench)
}
