import { randomUUID } from 'node:crypto'
import { WebSocket } from 'ws'
import { BranchTree } from '../../../../shared/branch-tree.ts'
import { NodeBatch, type NodeFrame } from '../../../../shared/protocol/node.ts'
import { wholeTree } from '../../../replay/replay.ts'
import { RequestFailed } from './answer.ts'
import { readEvent, toGenerate } from './socket-target.ts'
import type { BenchRequest, Target } from './target.ts'

/** A gpu node, as the edge asks it: the only way in for forced answers. `url`: ws://host:port. */
export function nodeTarget({ url, secret }: { url: string; secret: string }): Target {
  const address = new URL('/v1/requests', url)
  const headers = { authorization: `Bearer ${secret}` }
  return {
    ask: (request, answer) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(address, { headers })
        const send = (frame: NodeFrame) => socket.send(JSON.stringify(frame))
        const tree = new BranchTree()
        socket.on('open', () => send(startFrame(request)))
        socket.on('message', (data) => {
          const at = performance.now()
          for (const event of NodeBatch.parse(JSON.parse(String(data))).events) {
            if (event.type === 'error') return reject(new RequestFailed(event.code, event.message))
            tree.apply(event)
            readEvent(event, answer, at)
            if (event.type === 'done') send({ type: 'ack', seq: event.seq })
          }
        })
        socket.on('error', (error) => reject(new RequestFailed('connection_lost', error.message)))
        socket.on('close', () => {
          if (!answer.whole)
            return reject(new RequestFailed('incomplete', 'the answer ended without its end'))
          answer.setText(tree.text())
          resolve()
        })
      }),
    close: () => {},
  }
}

function startFrame(request: BenchRequest): NodeFrame {
  const generate = toGenerate(request)
  const start = { type: 'start', stream: randomUUID() } as const
  if (!request.forced) return { ...start, request: generate }
  const forced = request.forced.map(({ parent, tokens }) => ({ parent, tokens }))
  return { ...start, request: { ...generate, branching: wholeTree(generate.branching) }, forced }
}
