import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import {
  API_KEY_SUBPROTOCOL_PREFIX,
  MULTIPLEX_SUBPROTOCOL,
  SUBPROTOCOL,
} from '../../../shared/protocol/version.ts'
import { inTime as orTooLate } from '../in-time.ts'

/** No exchange may take longer; what does, hangs. */
const HANG_MS = 30_000
/** A body that is valid after all may ask for a long answer: nobody waits for that. */
const ENOUGH_MS = 500
const CLOSE_SERVICE_RESTART = 1012
/** RFC 6455: text that is not UTF-8. */
const CLOSE_INVALID_TEXT = 1007
const AS_TEXT = { binary: false }
const CLOSE_GRACE_MS = 2_000
const MAX_ACK = JSON.stringify({ type: 'ack', seq: Number.MAX_SAFE_INTEGER })
const LAST_ID = 'the last one'
const CANCEL = JSON.stringify({ type: 'cancel' })

/** Bytes go as text that is none. */
export type Input = string | Uint8Array

/** What came back is of the protocol, or an Error says what is not. */
export type Throw = (inputs: readonly Input[]) => Promise<void>

/** Frames for a stream of the edge, then a cancel, so that also what is valid ends. */
export function atEdgeSocket(url: string, key: string): Throw {
  return async (frames) => {
    const protocols = [SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + key]
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/stream?flow=ack`, protocols)
    const texts: string[] = []
    socket.on('message', (data) => texts.push(String(data)))
    await once(socket, 'open')
    for (const frame of [...frames, CANCEL]) socket.send(frame, AS_TEXT)
    const code = await inTime(closed(socket))
    if (isRefusedBytes(frames, code)) return
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
    for (const frame of [...frames, CANCEL]) socket.send(frame, AS_TEXT)
    const code = await inTime(closed(socket))
    if (isRefusedBytes(frames, code)) return
    // All streams here have the same few names: the newer one cuts the older.
    if (code === CLOSE_SERVICE_RESTART) return
    if (last.type !== 'done' && last.type !== 'error') throw new Error(`the last event is ${last.type}`)
    if (last.code === 'internal_error') throw new Error('internal_error')
  }
}

/** Frames for a socket of many requests; then one that names no request, which has to be answered, whatever came before. */
export function atSharedSocket(url: string, key: string): Throw {
  return async (frames) => {
    const protocols = [MULTIPLEX_SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + key]
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/stream`, protocols)
    const answered = new Promise<void>((resolve, reject) => {
      socket.on('message', (data) => {
        const frame = JSON.parse(String(data))
        if (frame.code === 'internal_error') reject(new Error('internal_error'))
        if (frame.type === 'error' && frame.id === LAST_ID) resolve()
      })
      socket.on('error', () => {}).once('close', (code) => reject(new Error(`closed with ${code}`)))
    })
    answered.catch(() => {})
    await once(socket, 'open')
    for (const frame of [...frames, JSON.stringify({ type: 'resume', id: LAST_ID, stream: '', after: -1 })])
      socket.send(frame, AS_TEXT)
    try {
      await inTime(answered)
    } finally {
      // A goodbye, so that what is valid ends, too.
      socket.close(1000)
    }
    await inTime(closed(socket))
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

/** A text of which some bytes are none may be refused by the WebSocket itself. */
function isRefusedBytes(frames: readonly Input[], code: number): boolean {
  return code === CLOSE_INVALID_TEXT && frames.some((frame) => typeof frame !== 'string')
}

export async function closed(socket: WebSocket): Promise<number> {
  return await new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
}

export function inTime<T>(promise: Promise<T>): Promise<T> {
  return orTooLate(promise, HANG_MS)
}
