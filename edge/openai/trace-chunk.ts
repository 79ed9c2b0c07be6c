import type { TraceChunk } from '../../shared/openai.ts'
import type { TraceEvent } from '../../shared/protocol/events.ts'
import { TRACE_VERSION } from '../../shared/protocol/trace.ts'

/** The next steps of a trace, beside a chunk without text. */
export function traceChunk({ steps }: TraceEvent): TraceChunk {
  return { event: 'trace', version: TRACE_VERSION, steps }
}
