/** Version of the branch protocol. Kept apart from the schemas so that browser bundles do not include them. */
export const PROTOCOL_VERSION = 1
/** The WebSocket subprotocol of `GET /v1/stream`. */
export const SUBPROTOCOL = 'apar.v1'
/** The subprotocol for many requests on one socket (`multiplex.ts`). */
export const MULTIPLEX_SUBPROTOCOL = 'apar.mux.v1'
/** Longest frame a client may send, in UTF-16 code units. */
export const MAX_FRAME_CHARS = 2 * 1024 * 1024
/** Browsers cannot set headers on a WebSocket: they send the API key as a second subprotocol with this prefix. */
export const API_KEY_SUBPROTOCOL_PREFIX = 'apar-key.'
