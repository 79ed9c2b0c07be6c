import type { Speculation } from '../../shared/protocol/speculation.ts'

/**
 * The draft sources of a request at a node that was started with `node`: `auto` of either leaves the choice to the other,
 * and a source that the node was not given drafts nothing.
 */
export function allowedSpeculation(node: Speculation, request: Speculation = 'auto'): Speculation {
  if (node === 'auto' || node === request) return request
  return request === 'auto' ? node : 'off'
}
