import type { StreamEvent } from '../shared/protocol/types/events.ts'
import type { GenerateRequest } from '../shared/protocol/types/request.ts'
import type { SocketConstructor } from './socket.ts'

export interface StreamOptions {
  /** The edge's address: `https://host`, `http://host:port`, or with a prefix, `https://host/models`. */
  baseUrl: string
  apiKey: string
  request: GenerateRequest
  /**
   * For how long the client tries to reconnect and resume after the connection is lost, in ms. Default 25 s, a
   * little less than the time for which the edge keeps a stream; 0 turns reconnecting off.
   */
  reconnectMs?: number | undefined
  /** Aborting it cancels the stream, which ends with `done`, reason `abort`. */
  signal?: AbortSignal | undefined
  /** For platforms without WebSocket, for example Node 20: pass the `ws` package's. */
  WebSocket?: SocketConstructor | undefined
}

/** What another `BranchStream`, perhaps of an earlier page, has read of a stream. */
export interface StreamPosition {
  /** Its `id`. */
  stream: string
  /** Its `lastSeq` while it was `caughtUp`: the stream goes on behind this event. */
  after: number
  /** All events up to there; the tree begins with them. They are not delivered again. */
  events: readonly StreamEvent[]
}

export type ResumeOptions = Omit<StreamOptions, 'request'> & { position: StreamPosition }

export type ConnectionOptions = Pick<StreamOptions, 'baseUrl' | 'apiKey' | 'WebSocket'>

/** `request`: undefined for a stream that is resumed. */
export type BranchStreamOptions = Omit<StreamOptions, 'request'> & { request: GenerateRequest | undefined }
