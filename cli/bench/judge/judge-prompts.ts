import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { ChatMessage } from '../../../shared/protocol/request.ts'
import { badLine } from '../../../training/data/conversation.ts'
import { readJsonValues } from '../../../training/data/input/json-values.ts'
import { UserError } from '../../explain.ts'

const FILE = 'judge_prompts.jsonl'
/** Where FastChat's checkout, or a folder with the file alone, has it. */
const PLACES = [FILE, join('fastchat/llm_judge/data', FILE)]

const Line = z.looseObject({
  name: z.string(),
  system_prompt: z.string(),
  prompt_template: z.string(),
})
/** A prompt of FastChat's llm_judge. */
export type JudgePrompt = Pick<z.infer<typeof Line>, 'name' | 'system_prompt' | 'prompt_template'>

/** What is judged: two answers against each other, or one by itself. */
export type JudgeMode = 'pairwise' | 'single'

/** @throws UserError `missing_option`, `invalid_option` */
export function judgePromptsFile(given: string | undefined, folder: string | undefined): string {
  if (given !== undefined) return given
  const found = PLACES.map((place) => join(folder ?? '', place)).find((path) => existsSync(path))
  if (folder !== undefined && found !== undefined) return found
  const what = `--judge-prompts is needed: ${FILE} of FastChat, in fastchat/llm_judge/data of its checkout`
  throw new UserError('missing_option', what)
}

/** The prompts of the file by their names. @throws AparError `invalid_request` with file and line. */
export async function readJudgePrompts(file: string): Promise<ReadonlyMap<string, JudgePrompt>> {
  const prompts = new Map<string, JudgePrompt>()
  for await (const { value, line } of readJsonValues(file)) {
    const { success, data } = Line.safeParse(value)
    if (!success)
      throw badLine(file, line, 'expected {name, system_prompt, prompt_template} as FastChat has them')
    prompts.set(data.name, data)
  }
  return prompts
}

/** The names that FastChat's own runner takes. */
export function promptName(
  mode: JudgeMode,
  { isMultiTurn, hasReference }: { isMultiTurn: boolean; hasReference: boolean },
) {
  const kind = {
    pairwise: hasReference ? 'pair-math-v1' : 'pair-v2',
    single: hasReference ? 'single-math-v1' : 'single-v1',
  }
  return `${kind[mode]}${isMultiTurn ? '-multi-turn' : ''}`
}

/**
 * What the judge is asked. `values` stand in the places `{name}` of the template; what they contain themselves is text.
 * @throws UserError `invalid_option` for a place without a value.
 */
export function judgeMessages(prompt: JudgePrompt, values: Readonly<Record<string, string>>): ChatMessage[] {
  const content = prompt.prompt_template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name]
    if (value === undefined)
      throw new UserError('invalid_option', `--judge-prompts: ${prompt.name} has the unknown place {${name}}`)
    return value
  })
  return [
    { role: 'system', content: prompt.system_prompt },
    { role: 'user', content },
  ]
}
