import WebSocket from 'ws'
import type { ServerFrame, StreamEvent } from '../../shared/protocol/events.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'
import type { NodeBatch, NodeFrame } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, SUBPROTOCOL } from '../../shared/protocol/version.ts'
import { dueTime, now, PACED_MODEL } from './paced-engine.ts'
import type { PacedStack } from './paced-stack.ts'

export interface StreamPlan {
  readonly seed: number
  readonly branches: number
  readonly maxTokens: number
}

/** The same as in client/stream.ts. */
const ACK_EVERY = 32

/** Reads one stream through the edge; returns the lateness of each letter in ms, in order of arrival. */
export async function readOverEdge(stack: PacedStack, plan: StreamPlan): Promise<number[]> {
  const url = `${stack.edgeUrl.replace('http', 'ws')}/v1/stream?flow=ack`
  const socket = new WebSocket(url, [SUBPROTOCOL, API_KEY_SUBPROTOCOL_PREFIX + stack.key])
  const send = (frame: ClientFrame) => socket.send(JSON.stringify(frame))
  const letters = new Letters()
  let acked = -1
  socket.on('open', () => send({ type: 'generate', ...toRequest(plan) }))
  socket.on('message', (data) => {
    const frame: ServerFrame = JSON.parse(String(data))
    if (frame.type === 'keep_alive') return
    letters.add(frame)
    if (frame.seq - acked < ACK_EVERY) return
    acked = frame.seq
    send({ type: 'ack', seq: acked })
  })
  await closed(socket)
  return letters.late(stack, plan)
}

/** The same from the gpu node directly, which is called as the edge calls it. */
export async function readOverNode(stack: PacedStack, plan: StreamPlan): Promise<number[]> {
  const headers = { authorization: `Bearer ${stack.nodeSecret}` }
  const socket = new WebSocket(`${stack.nodeUrl}/v1/requests`, { headers })
  const send = (frame: NodeFrame) => socket.send(JSON.stringify(frame))
  const letters = new Letters()
  socket.on('open', () => send({ type: 'start', stream: `direct-${plan.seed}`, request: toRequest(plan) }))
  socket.on('message', (data) => {
    const { events }: NodeBatch = JSON.parse(String(data))
    for (const event of events) letters.add(event)
    const last = events.at(-1)
    if (last?.type === 'done') send({ type: 'ack', seq: last.seq })
  })
  await closed(socket)
  return letters.late(stack, plan)
}

function toRequest({ seed, branches, maxTokens }: StreamPlan): GenerateRequest {
  const messages = [{ role: 'user' as const, content: 'Hello' }]
  return {
    model: PACED_MODEL,
    messages,
    seed,
    max_tokens: maxTokens,
    branching: { max_branches: branches },
  }
}

async function closed(socket: WebSocket): Promise<void> {
  await new Promise((resolve, reject) => socket.on('close', resolve).on('error', reject))
}

/** Arrival times of the letters of a stream's branches. */
class Letters {
  readonly #arrivals: { branch: number; from: number; to: number; at: number }[] = []
  readonly #lengths = new Map<number, number>()
  #done = false

  add(frame: Exclude<ServerFrame, { type: 'keep_alive' }> | StreamEvent): void {
    const at = now()
    if (frame.type === 'delta') this.#addText(frame.branch, frame.text, at)
    else if (frame.type === 'deltas')
      for (const { branch, text } of frame.texts) this.#addText(branch, text, at)
    else if (frame.type === 'error') throw new Error(`a stream failed: ${frame.code}: ${frame.message}`)
    else if (frame.type === 'done') this.#done = true
  }

  #addText(branch: number, text: string, at: number): void {
    const from = this.#lengths.get(branch) ?? 0
    this.#lengths.set(branch, from + text.length)
    this.#arrivals.push({ branch, from, to: from + text.length, at })
  }

  /** @throws Error when the stream is not complete. */
  late({ firstStep, stepMs }: PacedStack, { seed, branches }: StreamPlan): number[] {
    const first = firstStep(seed)
    if (!this.#done || first === undefined) throw new Error(`stream ${seed} was cut before its end`)
    const begun = { first, branches, stepMs }
    return this.#arrivals.flatMap(({ branch, from, to, at }) =>
      Array.from({ length: to - from }, (_, index) => at - dueTime(begun, branch, from + index)),
    )
  }
}
