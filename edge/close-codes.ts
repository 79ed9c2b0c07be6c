/** Codes with which clients and sessions close their sockets to each other. */

/** The client said goodbye. */
export const CLOSE_LEFT = 1000
/** The client was lost and may come back. */
export const CLOSE_LOST = 4000
/** Too many frames in a row that were none of the protocol's, or were refused. */
export const CLOSE_BAD_FRAMES = 4400
/** The client reads too slowly; it may resume. */
export const CLOSE_SLOW_CLIENT = 4408
/** Another socket reads this stream now. */
export const CLOSE_REPLACED = 4409

/** Codes with which a client leaves on purpose: done, page closed, close() without a code. Anything else is a loss. */
export function isGoodbye(code: number): boolean {
  return code === CLOSE_LEFT || code === 1001 || code === 1005
}
