import { AparError } from '../shared/errors.ts'
import { isTerminal, type StreamEvent } from '../shared/protocol/events.ts'
import type { ClientFrame } from '../shared/protocol/frames.ts'
import type { GenerateRequest } from '../shared/protocol/request.ts'
import type { Env } from './env.ts'
import { closeQuietly } from './gpu-node.ts'

/** A socket to a new StreamSession, not accepted yet. */
export async function connectToSession(env: Env): Promise<WebSocket> {
  const session = env.STREAM_SESSION.get(env.STREAM_SESSION.newUniqueId())
  const { webSocket } = await session.fetch('https://session/', { headers: { upgrade: 'websocket' } })
  if (!webSocket) throw new Error('the stream session took no WebSocket')
  return webSocket
}

/**
 * The events of one stream, for a route that is the stream's client itself. Aborting `signal` cancels the stream
 * upstream and ends the events, as does leaving the loop early.
 */
export async function* generate(
  env: Env,
  request: GenerateRequest,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent, void> {
  const socket = await connectToSession(env)
  const inbox: StreamEvent[] = []
  let ended = false
  let wake = () => {}
  const end = () => {
    ended = true
    wake()
  }
  socket.addEventListener('message', ({ data }) => {
    inbox.push(JSON.parse(String(data)))
    wake()
  })
  socket.addEventListener('close', end)
  socket.addEventListener('error', end)
  signal.addEventListener('abort', end)
  socket.accept()
  try {
    socket.send(JSON.stringify({ type: 'generate', ...request } satisfies ClientFrame))
    while (!signal.aborted) {
      const event = inbox.shift()
      if (event) {
        yield event
        if (isTerminal(event)) return
      } else {
        if (ended) throw new AparError('gpu_node_lost', 'the stream was cut before its end')
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  } finally {
    closeQuietly(socket)
  }
}
