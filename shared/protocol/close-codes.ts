/** Codes with which clients, sessions and gpu nodes close their sockets to each other. */

/** The client said goodbye. */
export const CLOSE_LEFT = 1000
/** The client was lost and may come back; or the way to a gpu node was, which says nothing about the stream. */
export const CLOSE_LOST = 4000
/** A gpu node shuts down: attaching again would be in vain. */
export const CLOSE_SERVICE_RESTART = 1012
/** Frames that are none of the protocol's: of a client too many in a row, of a gpu node one. */
export const CLOSE_BAD_FRAMES = 4400
/** The client reads too slowly; it may resume. */
export const CLOSE_SLOW_CLIENT = 4408
/** Another socket has taken over: of this stream, or of this gpu node. */
export const CLOSE_REPLACED = 4409

/** Codes with which a client leaves on purpose: done, page closed, close() without a code. Anything else is a loss. */
export function isGoodbye(code: number): boolean {
  return code === CLOSE_LEFT || code === 1001 || code === 1005
}
