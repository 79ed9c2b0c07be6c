import { AparError } from '../shared/errors.ts'
import { isTerminal, type StreamEvent } from '../shared/protocol/events.ts'
import type { ClientFrame } from '../shared/protocol/frames.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import type { Env } from './env.ts'
import { closeQuietly } from './gpu-node.ts'

/** How long a cancelled stream may take to say what it used. */
const LAST_WORD_MS = 5_000

/** A socket to a new StreamSession, not accepted yet. */
export async function connectToSession(env: Env): Promise<WebSocket> {
  const session = env.STREAM_SESSION.get(env.STREAM_SESSION.newUniqueId())
  const { webSocket } = await session.fetch('https://session/', { headers: { upgrade: 'websocket' } })
  if (!webSocket) throw new Error('the stream session took no WebSocket')
  return webSocket
}

export interface GenerateOptions {
  /** Aborting it cancels the stream upstream and ends the events, as does leaving the loop early. */
  readonly signal: AbortSignal
  /** Sees every event, also those that come between a cancel and the end. */
  readonly observe?: (event: StreamEvent) => void
}

/** The events of one stream, for a route that is the stream's client itself. */
export async function* generate(
  env: Env,
  request: GenerateRequest,
  { signal, observe = () => {} }: GenerateOptions,
): AsyncGenerator<StreamEvent, void> {
  const socket = await connectToSession(env)
  const inbox: StreamEvent[] = []
  let closed = false
  let finished = false
  let wake = () => {}
  const close = () => {
    closed = true
    wake()
  }
  const onAbort = () => wake()
  socket.addEventListener('message', ({ data }) => {
    const event: StreamEvent = JSON.parse(String(data))
    observe(event)
    finished ||= isTerminal(event)
    inbox.push(event)
    wake()
  })
  socket.addEventListener('close', close)
  socket.addEventListener('error', close)
  signal.addEventListener('abort', onAbort)
  socket.accept()
  const send = (frame: ClientFrame) => socket.send(JSON.stringify(frame))
  const something = () =>
    new Promise<void>((resolve) => {
      wake = resolve
    })
  try {
    send({ type: 'generate', ...request })
    while (!signal.aborted) {
      const event = inbox.shift()
      if (event) {
        yield event
        if (isTerminal(event)) return
      } else {
        if (closed) throw new AparError('gpu_node_lost', 'the stream was cut before its end')
        await something()
      }
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    if (!finished && !closed) {
      send({ type: 'cancel' })
      const late = setTimeout(close, LAST_WORD_MS)
      while (!finished && !closed) await something()
      clearTimeout(late)
    }
    closeQuietly(socket)
  }
}
