import type { Command } from 'commander'
import { registerAnswer } from './answer.ts'
import { registerBuild } from './build.ts'
import { registerInspect } from './inspect.ts'
import { registerMerge } from './merge.ts'
import { registerPrompts } from './prompts.ts'
import { registerStats } from './stats.ts'

/** Adds `apar data` and its commands to the program, each from a file of its own. */
export function registerData(program: Command): void {
  const data = program.command('data').description('training data: conversations to rows and token shards')
  registerBuild(data)
  registerInspect(data)
  registerStats(data)
  registerPrompts(data)
  registerAnswer(data)
  registerMerge(data)
}
