import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import {
  API_KEY_SUBPROTOCOL_PREFIX,
  MULTIPLEX_SUBPROTOCOL,
  SUBPROTOCOL,
} from '../../../shared/protocol/version.ts'
import { inTime as withinMs } from '../in-time.ts'

/** An exchange that takes longer counts as hung. */
const HANG_MS = 30_000
/** A valid body may ask for a long answer: the request is aborted after this time. */
const ABORT_MS = 500
const CLOSE_SERVICE_RESTART = 1012
/** RFC 6455: text that is not UTF-8. */
const CLOSE_INVALID_TEXT = 1007
const AS_TEXT = { binary: false }
const CLOSE_GRACE_MS = 2_000
const MAX_ACK = JSON.stringify({ type: 'ack', seq: Number.MAX_SAFE_INTEGER })
const LAST_ID = 'the last one'
const CANCEL = JSON.stringify({ type: 'cancel' })

/** Bytes are sent as a text frame that is not valid UTF-8. */
export type Input = string | Uint8Array

/** Sends inputs and checks the answer. @throws Error when the answer does not follow the protocol. */
export type SendInputs = (inputs: readonly Input[]) => Promise<void>

/** Sends frames to a stream's socket of the edge, then a cancel, so that valid requests end as well. */
export function fuzzEdgeSocket(url: string, key: string): SendInputs {
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

/** Sends frames to a gpu node, as a faulty edge might. */
export function fuzzNodeSocket(url: string, secret: string): SendInputs {
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
    // Stream names repeat here: a newer stream closes the socket of an older one with the same name.
    if (code === CLOSE_SERVICE_RESTART) return
    if (last.type !== 'done' && last.type !== 'error') throw new Error(`the last event is ${last.type}`)
    if (last.code === 'internal_error') throw new Error('internal_error')
  }
}

/**
 * Sends frames to a shared socket, then a `resume` of an unknown stream, which must be answered whatever came
 * before.
 */
export function fuzzSharedSocket(url: string, key: string): SendInputs {
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
      // Code 1000 cancels valid requests.
      socket.close(1000)
    }
    await inTime(closed(socket))
  }
}

/** Sends a body to a path of the edge. Any status below 500 is allowed; an error must have a code. */
export function fuzzPath(url: string, method: string, key: string): SendInputs {
  return async ([body = '']) => {
    const timeout = new AbortController()
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const ask = fetch(url, { method, headers, body, signal: timeout.signal })
    const timer = setTimeout(() => timeout.abort(), ABORT_MS)
    try {
      const response = await inTime(ask)
      const text = await inTime(response.text())
      if (response.status >= 500 || text.includes('internal_error'))
        throw new Error(`${response.status} ${text.slice(0, 200)}`)
      if (response.status >= 400 && typeof JSON.parse(text).error?.code !== 'string')
        throw new Error(`${response.status} without a code`)
    } catch (error) {
      if (!timeout.signal.aborted) throw error
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Sends bytes that need not be HTTP to a port. */
export function fuzzPort(url: string): SendInputs {
  const { hostname, port } = new URL(url)
  return async (texts) => {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => {}).resume()
    const ended = new Promise((resolve) => socket.once('close', resolve))
    for (const text of texts) socket.write(text)
    socket.end('\r\n\r\n')
    await Promise.race([ended, sleep(CLOSE_GRACE_MS)])
    socket.destroy()
  }
}

/** The WebSocket itself may refuse a text frame that is not valid UTF-8. */
function isRefusedBytes(frames: readonly Input[], code: number): boolean {
  return code === CLOSE_INVALID_TEXT && frames.some((frame) => typeof frame !== 'string')
}

export async function closed(socket: WebSocket): Promise<number> {
  return await new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
}

export function inTime<T>(promise: Promise<T>): Promise<T> {
  return withinMs(promise, HANG_MS)
}
