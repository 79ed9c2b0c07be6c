import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import { percentile } from '../../cli/bench/percentile.ts'
import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { type LocalEdge, startLocalEdge } from '../../cli/local/edge.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { API_KEY_SUBPROTOCOL_PREFIX, SUBPROTOCOL } from '../../shared/protocol/version.ts'
import { PACED_MODEL } from '../edge/paced-engine.ts'
import type { PacedNodeMessage } from '../edge/paced-node.ts'
import { spawnPacedNode } from '../edge/paced-stack.ts'
import { SCRATCH } from '../edge/scratch.ts'
import type { BenchCase, SampleFile } from '../report.ts'

/** From the stop of a node until its streams go on elsewhere: docs/operations.md. */
const GOAL_SECONDS = 15
/** A letter of each stream. */
const STEP_MS = 250
/** Letters that arrive sooner after the stop of their node were on their way. */
const ON_THEIR_WAY_MS = 1_000
/** A round's nodes stop at random times, as far as their heartbeats are apart. */
const STOPS_WITHIN_MS = 3_000
const SURVIVORS = 2
const NEW_REQUESTS = 6
const GIVE_UP_MS = 60_000
const ADMIN_KEY = 'admin-key-of-the-bench'

/**
 * Stops gpu nodes with SIGSTOP while they decode: the kernel keeps their connections open, as a network that drops
 * packets does. Half of them have dialled in. A trial is one stop; its value is the time until the last stream of that
 * node goes on at another one.
 */
export async function silentNode(quick: boolean, file: SampleFile): Promise<BenchCase[]> {
  const [stops, rounds] = quick ? [4, 1] : [10, 5]
  const stack = await SilentStack.open(stops + SURVIVORS)
  try {
    const moved: number[] = []
    const begun: number[] = []
    for (let round = 0; round < rounds; round++) {
      const result = await runRound(stack, stops)
      moved.push(...result.moved)
      begun.push(...result.begun)
      for (const seconds of result.moved) file.add({ bench: 'hostile', case: 'silent node', round, seconds })
      console.error(`hostile: silent nodes: ${moved.length} of ${stops * rounds} stops`)
    }
    return [
      row(`a stopped gpu node's streams go on, p99 of ${moved.length} stops`, percentile(moved, 99)),
      row('the same, p50', percentile(moved, 50), null),
      row(`a new request beside stopped gpu nodes begins, p99 of ${begun.length}`, percentile(begun, 99)),
    ]
  } finally {
    await stack.close()
  }
}

function row(name: string, seconds: number, goal: number | null = GOAL_SECONDS): BenchCase {
  return { case: name, value: Number(seconds.toPrecision(3)), unit: 's', better: 'lower', goal }
}

interface Round {
  /** Seconds from each stop until all streams of its node have gone on. */
  readonly moved: number[]
  /** Seconds until the first letter of requests that came after the stops. */
  readonly begun: number[]
}

async function runRound(stack: SilentStack, stops: number): Promise<Round> {
  await stack.whenAllRegistered()
  const targets = stack.nodes.slice(0, stops)
  const streams = await openStreamsOnAll(stack, targets)
  const trials = targets.map(async (node) => {
    await sleep(Math.random() * STOPS_WITHIN_MS)
    const own = streams.filter(({ seed }) => node.seeds.has(seed))
    const stoppedAt = performance.now()
    node.process.kill('SIGSTOP')
    const goneOn = await Promise.all(own.map((stream) => stream.letterAfter(stoppedAt + ON_THEIR_WAY_MS)))
    return (Math.max(...goneOn) - stoppedAt) / 1000
  })
  await sleep(STOPS_WITHIN_MS)
  const asked = performance.now()
  const late = await stack.openStreams(NEW_REQUESTS)
  const begun = await Promise.all(
    late.map(async (stream) => ((await stream.letterAfter(asked)) - asked) / 1000),
  )
  const moved = await Promise.all(trials)
  for (const stream of [...streams, ...late]) stream.close()
  for (const { process, seeds } of stack.nodes) {
    process.kill('SIGCONT')
    seeds.clear()
  }
  return { moved, begun }
}

/** Nodes that were stopped a moment ago get few requests at first. @throws Error when one gets none. */
async function openStreamsOnAll(stack: SilentStack, targets: readonly SilentNode[]): Promise<PacedStream[]> {
  const streams: PacedStream[] = []
  const deadline = performance.now() + GIVE_UP_MS
  do {
    if (performance.now() > deadline) throw new Error('a gpu node gets no requests')
    const more = await stack.openStreams(targets.length)
    await Promise.all(more.map((stream) => stream.letterAfter(0)))
    streams.push(...more)
  } while (targets.some(({ seeds }) => seeds.size === 0))
  return streams
}

interface SilentNode {
  readonly process: ChildProcess
  /** Of the requests that began on this node. */
  readonly seeds: Set<number>
}

/** An edge and paced gpu nodes that are stopped and continued; every second one dials in. */
class SilentStack {
  readonly nodes: SilentNode[] = []
  readonly #edge: LocalEdge
  readonly #key: string
  readonly #stateDir: string
  #lastSeed = 0

  private constructor(edge: LocalEdge, key: string, stateDir: string) {
    this.#edge = edge
    this.#key = key
    this.#stateDir = stateDir
  }

  static async open(nodes: number): Promise<SilentStack> {
    const nodeSecret = newNodeSecret()
    const { key, record } = newApiKey('bench', 1_000_000)
    const stateDir = await mkdtemp(join(SCRATCH, 'apar-bench-'))
    const settings = { ADMIN_KEY, LOG_LEVEL: 'silent' }
    const options = { host: '127.0.0.1', port: 0, apiKeys: [record], nodeSecret, settings, stateDir }
    const edge = await startLocalEdge(options)
    const stack = new SilentStack(edge, key, stateDir)
    try {
      for (let index = 0; index < nodes; index++) await stack.#addNode(nodeSecret, index % 2 === 1)
      return stack
    } catch (error) {
      await stack.close()
      throw error
    }
  }

  async #addNode(nodeSecret: string, dialIn: boolean): Promise<void> {
    const process = spawnPacedNode({ edgeUrl: this.#edge.url, nodeSecret, stepMs: STEP_MS, dialIn })
    const node: SilentNode = { process, seeds: new Set() }
    this.nodes.push(node)
    await new Promise<void>((resolve, reject) => {
      process.on('message', (message: PacedNodeMessage) => {
        if (message.type === 'ready') resolve()
        else node.seeds.add(message.seed)
      })
      process.once('exit', () => reject(new Error('a paced gpu node ended')))
    })
  }

  /** @throws Error when nodes do not come back. */
  async whenAllRegistered(): Promise<void> {
    const deadline = performance.now() + GIVE_UP_MS
    for (;;) {
      const headers = { authorization: `Bearer ${ADMIN_KEY}` }
      const response = await fetch(`${this.#edge.url}/admin/v1/nodes`, { headers })
      const { data } = (await response.json()) as { data: { lease_seconds: number }[] }
      if (data.filter(({ lease_seconds }) => lease_seconds > 0).length === this.nodes.length) return
      if (performance.now() > deadline) throw new Error('a gpu node that was continued did not register')
      await sleep(200)
    }
  }

  async openStreams(count: number): Promise<PacedStream[]> {
    const streams = Array.from({ length: count }, () => {
      this.#lastSeed++
      return new PacedStream(this.#edge.url, this.#key, this.#lastSeed)
    })
    await Promise.all(streams.map((stream) => stream.opened))
    return streams
  }

  async close(): Promise<void> {
    for (const { process } of this.nodes) {
      if (process.exitCode !== null || process.signalCode !== null) continue
      const exited = once(process, 'exit')
      process.kill('SIGKILL')
      await exited
    }
    await this.#edge.close()
    await rm(this.#stateDir, { recursive: true, force: true })
  }
}

/** A client's stream that gets a letter per step until it is closed. */
class PacedStream {
  readonly seed: number
  readonly opened: Promise<unknown>
  readonly #socket: WebSocket
  #last = 0
  #failure: string | undefined

  constructor(edgeUrl: string, key: string, seed: number) {
    this.seed = seed
    const request: GenerateRequest = {
      model: PACED_MODEL,
      messages: [{ role: 'user', content: 'Hello' }],
      seed,
      max_tokens: 10_000,
      branching: { enabled: false },
    }
    this.#socket = new WebSocket(`${edgeUrl.replace('http', 'ws')}/v1/stream`, [
      SUBPROTOCOL,
      API_KEY_SUBPROTOCOL_PREFIX + key,
    ])
    this.opened = once(this.#socket, 'open')
    this.#socket.on('open', () => this.#socket.send(JSON.stringify({ type: 'generate', ...request })))
    this.#socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as { type: string; code?: string }
      if (frame.type === 'delta') this.#last = performance.now()
      else if (frame.type === 'error') this.#failure = frame.code
    })
  }

  /** The time of the first letter after this time. @throws Error when the stream fails, or none comes. */
  async letterAfter(time: number): Promise<number> {
    const deadline = performance.now() + GIVE_UP_MS
    while (this.#last <= time) {
      if (this.#failure !== undefined) throw new Error(`a stream failed: ${this.#failure}`)
      if (performance.now() > deadline) throw new Error(`stream ${this.seed} did not go on`)
      await sleep(20)
    }
    return this.#last
  }

  close(): void {
    this.#socket.close(1000)
  }
}
