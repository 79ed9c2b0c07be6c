import type { WebSocket } from 'ws'
import { AparError, toAparError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { parseJson } from '../../shared/parse.ts'
import {
  CLOSE_NORMAL,
  CLOSE_SERVICE_RESTART,
  CLOSE_TRY_AGAIN_LATER,
} from '../../shared/protocol/close-codes.ts'
import { MAX_FRAME_CHARS } from '../../shared/protocol/frames.ts'
import { type NodeBatch, NodeFrame } from '../../shared/protocol/node.ts'
import type { TokenAnswer } from '../../shared/protocol/token-query.ts'
import { nodeLog } from '../log.ts'
import { refusalEvent } from './outcomes.ts'
import type { Reader, ServedStream, ServedStreams } from './served-streams.ts'

/**
 * Large enough for every frame that the edge accepts: a UTF-16 code unit takes at most 3 bytes, and `start`
 * contains the request and, for a stream that moves, its log.
 */
const MAX_LOG_BYTES = 24 * 1024 * 1024
export const MAX_FRAME_BYTES = 3 * MAX_FRAME_CHARS + MAX_LOG_BYTES
/** A socket without a first frame is closed after this time. */
const START_TIMEOUT_MS = 10_000
/** A reader with more unsent bytes than this is disconnected; it may attach again. */
const MAX_BUFFERED_BYTES = 1024 * 1024
const PING_INTERVAL_MS = 15_000

/** The part of a `ws` socket that a stream uses. StreamChannel implements it for dialled-in nodes. */
export type RequestSocket = Pick<WebSocket, 'send' | 'close' | 'terminate' | 'ping' | 'bufferedAmount'> & {
  on(event: 'message', listener: (data: unknown, isBinary: boolean) => void): unknown
  on(event: 'pong' | 'error' | 'close', listener: () => void): unknown
}

/**
 * Serves one stream on one socket: `start` or `attach`, then batches. The stream outlives its socket by the grace
 * time.
 */
export function serveRequest(socket: RequestSocket, streams: ServedStreams, log: Logger = nodeLog()): void {
  let served: ServedStream | undefined
  /** Aborted when nobody waits for the answer to a query. */
  const asked = new AbortController()
  let over = false
  let alive = true

  const end = (code: number, reason: string): void => {
    if (over) return
    over = true
    clearTimeout(startTimer)
    clearInterval(pingTimer)
    socket.close(code, reason)
    served?.detach(reader)
    asked.abort()
  }
  const send = (batch: NodeBatch): void => {
    if (over) return
    socket.send(JSON.stringify(batch))
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES) end(CLOSE_TRY_AGAIN_LATER, 'the reader is too slow')
  }
  const reader: Reader = {
    send,
    disconnect: (reason) => end(CLOSE_SERVICE_RESTART, reason),
    complete: () => end(CLOSE_NORMAL, ''),
    refuse: (thrown) => {
      send({ rows: [], events: [refusalEvent(toAparError(thrown))] })
      end(CLOSE_NORMAL, '')
    },
  }
  const refuse = (thrown: unknown): void => {
    if (toAparError(thrown).code === 'internal_error') log.error('a bug ended a socket', {}, thrown)
    if (served && !served.ended) served.fail(thrown)
    else reader.refuse(thrown)
  }
  const handle = (frame: NodeFrame): void => {
    if (frame.type === 'start' || frame.type === 'attach') {
      if (served) throw new AparError('invalid_request', 'a socket carries one stream')
      clearTimeout(startTimer)
      served =
        frame.type === 'start'
          ? streams.start(frame.stream, frame.request, frame.log ?? [], reader, {
              callContext: frame.origin,
              tenant: frame.tenant,
              forced: frame.forced,
            })
          : streams.attach(frame.stream, frame.after, reader)
      // The first batch may already have exceeded the buffer limit.
      if (over) served.detach(reader)
    } else if (frame.type === 'query') {
      if (served) throw new AparError('invalid_request', 'a socket carries one stream')
      clearTimeout(startTimer)
      const { signal } = asked
      void streams
        .answer(frame.query, { tenant: frame.tenant, signal })
        .catch((thrown: unknown): TokenAnswer => answerOf(thrown, log))
        .then((answer) => {
          if (!over) socket.send(JSON.stringify(answer))
          end(CLOSE_NORMAL, '')
        })
    } else if (!served) {
      throw new AparError('invalid_request', 'the first frame must be start, attach or query')
    } else if (frame.type === 'cancel') {
      served.cancel()
    } else if (frame.type === 'cancel_branch') {
      served.cancelBranch(frame.branch)
    } else {
      served.ack(frame.seq)
    }
  }

  const startTimer = setTimeout(() => {
    refuse(new AparError('invalid_request', `no start frame within ${START_TIMEOUT_MS} ms`))
  }, START_TIMEOUT_MS)
  const pingTimer = setInterval(() => {
    if (!alive) return socket.terminate()
    alive = false
    socket.ping()
  }, PING_INTERVAL_MS)

  socket.on('pong', () => {
    alive = true
  })
  const receive = (data: unknown, isBinary: boolean): void => {
    if (over) return
    try {
      if (isBinary) throw new AparError('invalid_request', 'frames are text')
      handle(parseJson(NodeFrame, String(data)))
    } catch (error) {
      refuse(error)
    }
  }
  // Set while a large frame waits for its turn: those behind it wait, too.
  let waiting: Promise<void> | undefined
  socket.on('message', (data: unknown, isBinary: boolean) => {
    const turn = streams.largeFrames.turnFor(data)
    if (!turn && !waiting) return receive(data, isBinary)
    const received = Promise.all([waiting, turn]).then(() => {
      if (waiting === received) waiting = undefined
      receive(data, isBinary)
    })
    waiting = received
  })
  // After an error (a frame that is too large or malformed) a close event follows.
  socket.on('error', () => {})
  socket.on('close', () => end(CLOSE_NORMAL, ''))
}

function answerOf(thrown: unknown, log: Logger): TokenAnswer {
  const { code, message, param } = toAparError(thrown)
  if (code === 'internal_error') log.error('a bug ended a query', {}, thrown)
  return { type: 'error', code, message, param: param ?? null }
}
