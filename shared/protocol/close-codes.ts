/**
 * Every WebSocket close code that apar uses: between client and edge, between edge and gpu node, and on the socket of a
 * dialled-in node. Codes below 4000 are those of RFC 6455 (7.4.1) and of IANA's registry.
 */

/** The client closes on purpose, or the stream has been delivered completely. */
export const CLOSE_NORMAL = 1000
/** The page is closed, the server shuts down, or the stream no longer exists. */
export const CLOSE_GOING_AWAY = 1001
export const CLOSE_PROTOCOL_ERROR = 1002
/** Never sent; reported when the peer closed without a code. */
const CLOSE_NO_STATUS = 1005
/** Never sent; reported when the connection broke. */
export const CLOSE_ABNORMAL = 1006
export const CLOSE_INTERNAL_ERROR = 1011
/** The gpu node shuts down, or another session reads the stream: move the stream, do not attach to it again. */
export const CLOSE_SERVICE_RESTART = 1012
/** The edge reads a stream of the gpu node too slowly; it may attach again. */
export const CLOSE_TRY_AGAIN_LATER = 1013
/** The connection to a client or a gpu node was lost. Its streams may still run, and can be resumed. */
export const CLOSE_LOST = 4000
/** Invalid frames: too many in a row from a client, or a single one from a gpu node. */
export const CLOSE_BAD_FRAMES = 4400
/** The client reads too slowly; it may resume the stream. */
export const CLOSE_SLOW_CLIENT = 4408
/** A newer socket of the same stream, or of the same gpu node, has replaced this one. */
export const CLOSE_REPLACED = 4409
/** Never sent; used inside the client when the caller closed the connection that carried the stream. */
export const CLOSE_BY_CALLER = 4499

/** Whether a client closed its socket on purpose. After any other code it counts as disconnected and may resume. */
export function isIntentionalClose(code: number): boolean {
  return code === CLOSE_NORMAL || code === CLOSE_GOING_AWAY || code === CLOSE_NO_STATUS
}
