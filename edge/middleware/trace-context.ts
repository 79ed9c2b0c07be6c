import type { CallContext } from '../../shared/protocol/node.ts'

const TRACEPARENT =
  /^(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const TRACESTATE = /^[\x20-\x7e]{1,512}$/

/**
 * The client's span, from its headers (https://www.w3.org/TR/trace-context/). Invalid headers count as absent, and
 * fields of a later version are left out.
 */
export function traceContext(headers: Headers): Pick<CallContext, 'traceparent' | 'tracestate'> {
  const [, version, trace, span, flags, more] =
    TRACEPARENT.exec(headers.get('traceparent')?.trim() ?? '') ?? []
  if (!version || (version === '00' && more)) return {}
  const state = headers.get('tracestate')?.trim() ?? ''
  return {
    traceparent: `00-${trace}-${span}-${flags}`,
    ...(TRACESTATE.test(state) && { tracestate: state }),
  }
}
