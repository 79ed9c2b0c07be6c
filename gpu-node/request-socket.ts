import type { WebSocket } from 'ws'
import { AparError, toAparError } from '../shared/errors.ts'
import { parseJson } from '../shared/parse.ts'
import { isTerminal, type StreamEvent } from '../shared/protocol/events.ts'
import { NodeFrame } from '../shared/protocol/frames.ts'
import { refusalEvent } from './request.ts'
import type { RequestHandle, Runner } from './runner.ts'

/** A peer that opens a socket and says nothing holds it this long. */
const START_TIMEOUT_MS = 10_000
/** Bytes that may wait for a slow peer, a long answer, before its request is given up. */
const MAX_BUFFERED_BYTES = 1024 * 1024
const PING_INTERVAL_MS = 15_000

const CLOSE_NORMAL = 1000
const CLOSE_TRY_AGAIN_LATER = 1013

/** One socket, one request: `start`, then events until `done` or `error`. A peer that leaves aborts its request. */
export function serveRequest(socket: WebSocket, runner: Runner): void {
  let request: RequestHandle | undefined
  let over = false
  let alive = true

  const send = (event: StreamEvent): void => {
    if (over) return
    socket.send(JSON.stringify(event))
    if (isTerminal(event)) end(CLOSE_NORMAL, '')
    else if (socket.bufferedAmount > MAX_BUFFERED_BYTES) end(CLOSE_TRY_AGAIN_LATER, 'the reader is too slow')
  }
  const end = (code: number, reason: string): void => {
    over = true
    clearTimeout(startTimer)
    clearInterval(pingTimer)
    request?.cancel()
    socket.close(code, reason)
  }
  const refuse = (error: unknown): void => {
    const shown = toAparError(error)
    if (shown.code === 'internal_error') console.error(error)
    if (request && !over) request.fail(shown)
    else send(refusalEvent(shown))
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
  socket.on('message', (data, isBinary) => {
    if (over) return
    try {
      if (isBinary) throw new AparError('invalid_request', 'frames are text')
      const frame = parseJson(NodeFrame, String(data))
      if (frame.type === 'start') {
        if (request) throw new AparError('invalid_request', 'a socket carries one request')
        clearTimeout(startTimer)
        request = runner.start(frame.stream, frame.request, send)
        // Its first event may have been one too many.
        if (over) request.cancel()
      } else if (!request) {
        throw new AparError('invalid_request', 'the first frame must be start')
      } else if (frame.type === 'cancel') {
        request.cancel()
      } else {
        request.cancelBranch(frame.branch)
      }
    } catch (error) {
      refuse(error)
    }
  })
  // An error (too large a frame, a broken one) is followed by close.
  socket.on('error', () => {})
  socket.on('close', () => end(CLOSE_NORMAL, ''))
}
