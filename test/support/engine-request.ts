import { type EngineRequest, engineRequestSchema } from '../../gpu-node/engine/engine-request.ts'

const schema = engineRequestSchema(2 ** 31 - 1)

/** A greedy, serial request of 32 tokens with all fields, as native code needs them; `fields` are not validated. */
export function engineRequest({ id, ...fields }: EngineRequestFields): WholeRequest {
  return { ...schema.parse({ id, prompt: Int32Array.of(1), maxTokens: 32 }), ...fields }
}

type WholeRequest = Required<Omit<EngineRequest, 'grammar'>>
type EngineRequestFields = Partial<WholeRequest> & Pick<EngineRequest, 'id'>
