import { type EngineRequest, engineRequestSchema } from '../../gpu-node/engine/engine-request.ts'

const schema = engineRequestSchema(2 ** 31 - 1)

/** A greedy, serial request of 32 tokens, but for what is given; whole, as native code takes it, and not checked. */
export function engineRequest({ id, ...fields }: EngineRequestFields): Required<EngineRequest> {
  return { ...schema.parse({ id, prompt: Int32Array.of(1), maxTokens: 32 }), ...fields }
}

type EngineRequestFields = Partial<Required<EngineRequest>> & Pick<EngineRequest, 'id'>
