import { z } from 'zod'
import { readOptionalJson } from '../../gpu-node/checkpoint/read-json.ts'
import { DryFields, FurtherFields } from '../../shared/protocol/request.ts'

/** What a model's generation_config.json says of repetition: a request has the same names for it. */
const Repetition = z.object({
  repetition_penalty: FurtherFields.shape.repetition_penalty,
  ...DryFields.shape,
})
export type Repetition = z.infer<typeof Repetition>

/** So that a base is asked as the model that was tuned from it: without, most small models go round in circles. */
export function repetitionOf(folder: string): Repetition {
  return readOptionalJson(Repetition, folder, 'generation_config.json') ?? {}
}
