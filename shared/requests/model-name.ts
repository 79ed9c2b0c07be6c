import { GenerateRequest } from '../protocol/request.ts'

/** Of a call, which may leave it out where its key may use only one model that is served. */
export const ModelName = GenerateRequest.shape.model.optional()

/** A call whose model is known. */
export type Named<Call> = Call & { readonly model: string }
