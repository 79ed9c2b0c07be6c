import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import { API_KEY_SUBPROTOCOL_PREFIX, SUBPROTOCOL } from '../../../shared/protocol/version.ts'

/** No exchange may take longer; what does, hangs. */
const HANG_MS = 30_000
/** A body that is valid after all may ask for a long answer: nobody waits for that. */
const ENOUGH_MS = 500
const CLOSE_SERVICE_RESTART = 1012
const CLOSE_GRACE_MS = 2_000
const MAX_ACK = JSON.stringify({ type: 'ack', seq: Number.MAX_SAFE_INTEGER })
const CANCEL = JSON.stringify({ type: 'cancel' })

/** What came back is of the protocol, or an Error says what is not. */
export type Throw = (inputs: readonly string[]) => Promise<void>

/** Frames for a stream of the edge, then a cancel, so that also what is valid ends. */
export function atEdgeSocket(url: string, key: string): Throw {
  return async (frames) => {
    const protocols = [SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + key]
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/stream?flow=ack`, protocols)
    const texts: string[] = []
    socket.on('message', (data) => texts.push(String(data)))
    await once(socket, 'open')
    for (const frame of [...frames, CANCEL]) socket.send(frame)
    await inTime(closed(socket))
    const last = JSON.parse(texts.at(-1) ?? '{}')
    if (last.type !== 'done' && last.type !== 'error') throw new Error(`the last event is ${texts.at(-1)}`)
    if (last.code === 'internal_error') throw new Error('internal_error')
  }
}

/** Frames for a gpu node, as an edge that went mad would send them. */
export function atNodeSocket(url: string, secret: string): Throw {
  return async (frames) => {
    const socket = new WebSocket(`${url}/v1/requests`, { headers: { authorization: `Bearer ${secret}` } })
    let last: { type?: string; code?: string } = {}
    socket.on('message', (data) => {
      last = JSON.parse(String(data)).events.at(-1)
      // The node keeps a stream until its end is acknowledged.
      if (last.type === 'done' || last.type === 'error') socket.send(MAX_ACK)
    })
    await once(socket, 'open')
    for (const frame of [...frames, CANCEL]) socket.send(frame)
    const code = await inTime(closed(socket))
    // All streams here have the same few names: the newer one cuts the older.
    if (code === CLOSE_SERVICE_RESTART) return
    if (last.type !== 'done' && last.type !== 'error') throw new Error(`the last event is ${last.type}`)
    if (last.code === 'internal_error') throw new Error('internal_error')
  }
}

/** A body for a path of the edge; the answer's status has to be one that a caller's mistake, or none, can have. */
export function atPath(url: string, method: string, key: string): Throw {
  return async ([body = '']) => {
    const enough = new AbortController()
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const ask = fetch(url, { method, headers, body, signal: enough.signal })
    const timer = setTimeout(() => enough.abort(), ENOUGH_MS)
    try {
      const response = await inTime(ask)
      const text = await inTime(response.text())
      if (response.status >= 500 || text.includes('internal_error'))
        throw new Error(`${response.status} ${text.slice(0, 200)}`)
      if (response.status >= 400 && typeof JSON.parse(text).error?.code !== 'string')
        throw new Error(`${response.status} without a code`)
    } catch (error) {
      if (!enough.signal.aborted) throw error
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Bytes that need not be HTTP. */
export function atPort(url: string): Throw {
  const { hostname, port } = new URL(url)
  return async (texts) => {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {}).resume()
    const gone = new Promise((resolve) => socket.once('close', resolve))
    for (const text of texts) socket.write(text)
    socket.end('\r\n\r\n')
    await Promise.race([gone, sleep(CLOSE_GRACE_MS)])
    socket.destroy()
  }
}

async function closed(socket: WebSocket): Promise<number> {
  return await new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
}

async function inTime<T>(promise: Promise<T>): Promise<T> {
  const late = new AbortController()
  const hang = sleep(HANG_MS, undefined, { signal: late.signal }).then(() => {
    throw new Error(`nothing came for ${HANG_MS} ms`)
  })
  hang.catch(() => {})
  try {
    return await Promise.race([promise, hang])
  } finally {
    late.abort()
  }
}
