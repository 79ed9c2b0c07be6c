/**
 * Every code with which a WebSocket is closed here: between client and edge, session and gpu node, and on the socket with
 * which a node dials in. Below 4000 they are RFC 6455's (7.4.1) and IANA's registry's.
 */

/** Nothing is missing: a client that leaves on purpose, a stream that has arrived. */
export const CLOSE_NORMAL = 1000
/** The page is closed, or the server shuts down. */
export const CLOSE_GOING_AWAY = 1001
export const CLOSE_PROTOCOL_ERROR = 1002
/** Never sent: the other side gave no code. */
const CLOSE_NO_STATUS = 1005
/** Never sent: the connection broke. */
export const CLOSE_ABNORMAL = 1006
export const CLOSE_INTERNAL_ERROR = 1011
/** A gpu node shuts down: its streams move, and attaching to it again would be in vain. */
export const CLOSE_SERVICE_RESTART = 1012
/** The edge reads a gpu node's stream too slowly; it may attach again. */
export const CLOSE_TRY_AGAIN_LATER = 1013
/** The client was lost and may come back; or the way to a gpu node was, which says nothing about the stream. */
export const CLOSE_LOST = 4000
/** Frames that are not the protocol's: of a client too many in a row, of a gpu node one. */
export const CLOSE_BAD_FRAMES = 4400
/** The client reads too slowly; it may resume. */
export const CLOSE_SLOW_CLIENT = 4408
/** Another socket has taken over: of this stream, or of this gpu node. */
export const CLOSE_REPLACED = 4409
/** Never sent: the caller closed the connection that carried the stream. */
export const CLOSE_BY_CALLER = 4499

/** Whether a client that closed with this code left on purpose. Anything else is a loss, after which it may come back. */
export function isGoodbye(code: number): boolean {
  return code === CLOSE_NORMAL || code === CLOSE_GOING_AWAY || code === CLOSE_NO_STATUS
}
