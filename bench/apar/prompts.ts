import { existsSync } from 'node:fs'
import { type Prompt, readPrompts } from '../../training/data/prompts/read-prompts.ts'

/** Questions that no model here was trained on; the project's own where the published ones are not to be had. */
const PUBLISHED = ['../shared/data/eval/vicuna_bench.jsonl', '../shared/data/eval/mt_bench.jsonl']
const OWN = ['bench/apar/prompts.jsonl']
/** Held out of the demo model's data: it knows nothing but commands. */
const OF_DEMO = ['bench/apar/demo-prompts.jsonl']

/** Files of prompts for a model. */
export function defaultPrompts(model: string): readonly string[] {
  if (model === 'demo') return OF_DEMO
  return PUBLISHED.every((path) => existsSync(path)) ? PUBLISHED : OWN
}

/** @throws Error when there are none */
export async function readAll(files: readonly string[]): Promise<Prompt[]> {
  const all: Prompt[] = []
  for (const file of files) for await (const prompt of readPrompts(file)) all.push(prompt)
  if (all.length === 0) throw new Error(`no prompts in ${files.join(', ')}`)
  return all
}
