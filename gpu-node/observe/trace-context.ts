import type { Origin } from '../../shared/protocol/node.ts'

/** Of the trace that a request belongs to; undefined when its client does not trace. */
export function traceIdOf(origin: Origin | undefined): string | undefined {
  return origin?.traceparent?.split('-')[1]
}
