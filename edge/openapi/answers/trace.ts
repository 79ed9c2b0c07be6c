import { z } from 'zod'
import { TRACE_VERSION, TraceStep } from '../../../shared/protocol/trace.ts'

const parts = { version: z.literal(TRACE_VERSION), steps: z.array(TraceStep) }

/** Beside an answer, only with `apar.trace`. */
export const aparTrace = z.strictObject({ trace: z.strictObject(parts) }).optional()

/** The next steps of a trace, in a chunk without text. */
export const TraceChunk = z.strictObject({ event: z.literal('trace'), ...parts })
