import { EventEmitter } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type WebSocket from 'ws'
import { LargeFrames } from '../../gpu-node/requests/large-frames.ts'
import { serveRequest } from '../../gpu-node/requests/request-socket.ts'
import type { ServedStreams } from '../../gpu-node/requests/served-streams.ts'
import { silent } from '../support/logs.ts'

/** Notes what sockets ask for, and in which turn of the event loop. */
class Notes {
  readonly largeFrames = new LargeFrames()
  readonly calls: [turn: number, call: string][] = []
  turn = 0

  start(stream: string) {
    this.calls.push([this.turn, `start ${stream}`])
    return { ended: false, cancel: () => this.calls.push([this.turn, `cancel ${stream}`]), detach: () => {} }
  }
}

function socketOf(notes: Notes): EventEmitter {
  const socket = Object.assign(new EventEmitter(), { bufferedAmount: 0, send: () => {}, close: () => {} })
  serveRequest(socket as unknown as WebSocket, notes as unknown as ServedStreams, silent)
  return socket
}

function startFrame(stream: string, length: number): Buffer {
  const messages = [{ role: 'user', content: 'x'.repeat(length) }]
  return Buffer.from(JSON.stringify({ type: 'start', stream, request: { model: 'tiny', messages } }))
}

test('large frames that arrive together have a turn each; small ones do not wait for those of other sockets', async () => {
  const notes = new Notes()
  const [a, b, c] = [socketOf(notes), socketOf(notes), socketOf(notes)]
  const cancel = Buffer.from(JSON.stringify({ type: 'cancel' }))
  a.emit('message', startFrame('a', 100_000), false)
  a.emit('message', cancel, false)
  b.emit('message', startFrame('b', 100_000), false)
  c.emit('message', startFrame('c', 10), false)
  for (; notes.calls.length < 4 && notes.turn < 20; notes.turn++) await nextTurn()
  for (const socket of [a, b, c]) socket.emit('close')

  expect(notes.calls.map(([, call]) => call)).toEqual(['start c', 'start a', 'cancel a', 'start b'])
  const turnOf = (wanted: string) => notes.calls.find(([, call]) => call === wanted)?.[0] ?? -1
  expect(turnOf('start c')).toBe(0)
  expect(turnOf('start b')).toBeGreaterThan(turnOf('start a'))
})
