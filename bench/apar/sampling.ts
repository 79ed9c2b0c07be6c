import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/** What a model's generation_config.json says of repetition, by the names that a request has for it. */
const Repetition = z.object({
  repetition_penalty: z.number().optional(),
  dry_multiplier: z.number().optional(),
  dry_base: z.number().optional(),
  dry_allowed_length: z.number().optional(),
  dry_penalty_last_n: z.number().optional(),
})
export type Repetition = z.infer<typeof Repetition>

/** So that a base is asked as the model that was tuned from it: without, most small models go round in circles. */
export function repetitionOf(folder: string): Repetition {
  return Repetition.parse(JSON.parse(readFileSync(join(folder, 'generation_config.json'), 'utf8')))
}
