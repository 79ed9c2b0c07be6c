import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import WebSocket from 'ws'
import { percentile } from '../../cli/bench/percentile.ts'
import type { NodeBatch, NodeFrame } from '../../shared/protocol/node.ts'
import { gatewayIsInstalled, HOW_TO_INSTALL, startGateway } from '../peer/portkey/gateway.ts'
import type { BenchCase, SampleFile } from '../report.ts'
import { now, PACED_MODEL } from './paced-engine.ts'
import { type PacedStack, startPacedStack } from './paced-stack.ts'

/** The second token comes at the next step: a short streamed answer. */
const STEP_MS = 5
const MAX_TOKENS = 2
/** Requests that are not counted, while JIT compilers and connections warm up. */
const WARM_UP = 50
/** Pause for work left over from the previous request, for example garbage collection. */
const SETTLE_MS = 10

/** Sends a request and returns the ms until its first text has arrived. */
type FirstToken = () => Promise<number>

/**
 * Measures the time to first token that the edge adds to a direct call of the gpu node, and that Portkey's
 * gateway adds in front of the same engine. One request at a time, in turns, so that noise of the machine affects
 * all targets equally.
 */
export async function firstToken(repetitions: number, file: SampleFile): Promise<BenchCase[]> {
  const stack = await startPacedStack(STEP_MS)
  const agent = new Agent({ keepAlive: true })
  const gateway = gatewayIsInstalled() ? await startGateway(stack.openAiUrl) : undefined
  if (!gateway) console.error(`edge: without Portkey's gateway (${HOW_TO_INSTALL})`)
  const bearer = { authorization: `Bearer ${stack.key}` }
  const targets: Record<string, FirstToken> = {
    node: () => overNode(stack),
    edge: () => overSse(agent, `${stack.edgeUrl}/v1`, bearer, { apar: { enabled: false } }),
    upstream: () => overSse(agent, stack.openAiUrl, bearer),
    ...(gateway && { portkey: () => overSse(agent, gateway.url, { ...bearer, ...gateway.headers }) }),
  }
  const times = new Map(Object.keys(targets).map((name) => [name, [] as number[]]))
  try {
    for (let repetition = -WARM_UP; repetition < repetitions; repetition++) {
      const entries = Object.entries(targets)
      const turn = Math.abs(repetition) % entries.length
      for (const [name, ask] of [...entries.slice(turn), ...entries.slice(0, turn)]) {
        await setTimeout(SETTLE_MS)
        const ms = timed(name, await ask())
        if (repetition < 0) continue
        times.get(name)?.push(ms)
        file.add({ bench: 'edge', case: 'first token', repetition, over: name, ms })
      }
    }
  } finally {
    agent.destroy()
    await gateway?.close()
    await stack.close()
  }
  const added = (name: string, base: string) => differences(times.get(name) ?? [], times.get(base) ?? [])
  return cases(added('edge', 'node'), gateway && added('portkey', 'upstream'), times.get('node') ?? [])
}

/** Returns `ms`. @throws Error when it is NaN because the answer had no text. */
export function timed(name: string, ms: number): number {
  if (Number.isNaN(ms)) throw new Error(`the answer of ${name} ended without a token`)
  return ms
}

/** Differences of samples taken in turns, pair by pair. @throws Error when the numbers of samples differ. */
export function differences(of: readonly number[], base: readonly number[]): number[] {
  if (of.length !== base.length)
    throw new Error(`${of.length} samples cannot be compared with ${base.length}`)
  return of.map((ms, index) => ms - (base[index] ?? Number.NaN))
}

function cases(edge: number[], portkey: number[] | undefined, node: number[]): BenchCase[] {
  const row = (name: string, value: number, unit: string, goal: number | null): BenchCase => {
    return { case: name, value: round(value), unit, better: 'lower', goal }
  }
  const name = 'first token over SSE, added by the edge'
  const own = [
    row(`${name}, p50`, percentile(edge, 50), 'ms', 2),
    row(`${name}, p99`, percentile(edge, 99), 'ms', 10),
    row('first token of the gpu node called directly, p50', percentile(node, 50), 'ms', null),
  ]
  if (!portkey) return own
  const theirs = percentile(portkey, 50)
  return [
    ...own,
    row("first token over SSE, added by Portkey's gateway, p50", theirs, 'ms', null),
    row("first token over SSE, added by Portkey's gateway, p99", percentile(portkey, 99), 'ms', null),
    row("the edge's share of what Portkey's gateway adds, p50", percentile(edge, 50) / theirs, 'x', 0.2),
  ]
}

/** Calls the node as the edge does: one WebSocket per stream. */
async function overNode({ nodeUrl, nodeSecret }: PacedStack): Promise<number> {
  const begun = now()
  const headers = { authorization: `Bearer ${nodeSecret}` }
  const socket = new WebSocket(`${nodeUrl}/v1/requests`, { headers })
  let first = Number.NaN
  socket.on('open', () => {
    const messages = [{ role: 'user' as const, content: 'Hello' }]
    const request = { model: PACED_MODEL, messages, max_tokens: MAX_TOKENS }
    const serial = { ...request, branching: { enabled: false } }
    socket.send(
      JSON.stringify({ type: 'start', stream: `direct-${begun}`, request: serial } satisfies NodeFrame),
    )
  })
  socket.on('message', (data) => {
    const { events }: NodeBatch = JSON.parse(String(data))
    if (Number.isNaN(first) && events.some(({ type }) => type === 'delta')) first = now() - begun
    const last = events.at(-1)
    if (last?.type === 'done') socket.send(JSON.stringify({ type: 'ack', seq: last.seq } satisfies NodeFrame))
  })
  await new Promise((resolve, reject) => socket.on('close', resolve).on('error', reject))
  return first
}

/** Calls a server as OpenAI's clients do: keep-alive connection, chunks as server-sent events. */
export async function overSse(
  agent: Agent,
  baseUrl: string,
  headers: Record<string, string>,
  more: object = {},
): Promise<number> {
  const messages = [{ role: 'user', content: 'Hello' }]
  const ask = { model: PACED_MODEL, stream: true, max_tokens: MAX_TOKENS, messages, ...more }
  const body = JSON.stringify(ask)
  const begun = now()
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = { agent, method: 'POST', headers: { ...headers, 'content-type': 'application/json' } }
    httpRequest(`${baseUrl}/chat/completions`, options, resolve).on('error', reject).end(body)
  })
  let first = Number.NaN
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk
    if (Number.isNaN(first) && /"content":"[^"]/.test(text)) first = now() - begun
  }
  if (response.statusCode !== 200 || !text.includes('[DONE]'))
    throw new Error(`${baseUrl} answered ${response.statusCode}: ${text.slice(0, 300)}`)
  return first
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
