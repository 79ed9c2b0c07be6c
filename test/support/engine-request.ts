import { type EngineRequest, engineRequestSchema } from '../../gpu-node/engine/engine-request.ts'

const schema = engineRequestSchema(2 ** 31 - 1)

/** A greedy, serial request of 32 tokens with all fields, as native code needs them; `fields` are not validated. */
export function engineRequest({ id, ...fields }: EngineRequestFields): Required<EngineRequest> {
  return { ...schema.parse({ id, prompt: Int32Array.of(1), maxTokens: 32 }), ...fields }
}

type EngineRequestFields = Partial<Required<EngineRequest>> & Pick<EngineRequest, 'id'>
