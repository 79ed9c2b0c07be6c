import type { Command } from 'commander'
import { registerBuild } from './build.ts'
import { registerMerge } from './merge.ts'

/** Adds `apar data` and its commands to the program, each from a file of its own. */
export function registerData(program: Command): void {
  const data = program.command('data').description('training data: conversations to rows and token shards')
  registerBuild(data)
  registerMerge(data)
}
