import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { growthPercent, processUsage } from '../../../bench/edge/process-usage.ts'
import { MAX_FRAME_CHARS } from '../../../shared/protocol/version.ts'
import { type LocalFleet, startFleet } from '../../e2e/fleet.ts'
import { ADMIN_KEY, evictableEdge } from '../evictable-edge.ts'
import { readWithFaults, referenceTexts } from '../fault-injection.ts'
import { Counts } from './counts.ts'
import { fuzzControlSocket, fuzzDialIn } from './dialled-sockets.ts'
import * as examples from './examples.ts'
import { invalidUtf8, mutated } from './mutations.ts'
import {
  fuzzEdgeSocket,
  fuzzNodeSocket,
  fuzzPath,
  fuzzPort,
  fuzzSharedSocket,
  type Input,
  type SendInputs,
} from './sockets.ts'

const AT_A_TIME = 16
const MAX_BATCH_SIZE = 96
const MIN_BATCHES = 100
/** Batch size for inputs of two megabytes. */
const LARGE_BATCH_SIZE = 4
const IDLE_POLLS = 100
const IDLE_POLL_MS = 200

interface Target {
  readonly name: string
  readonly inputs: fc.Arbitrary<readonly Input[]>
  readonly send: SendInputs
  /** Relative number of batches. */
  readonly share: number
  /** Smaller batches, for expensive inputs. */
  readonly maxBatchSize?: number
}

export interface SocketResult {
  /** Number of inputs by boundary. */
  readonly inputs: Counts
  readonly failures: string[]
  /** Lines of the edge's log about errors of its own. */
  readonly loggedErrors: string[]
  /** After every batch, in MiB. */
  readonly memory: { readonly edge: number[]; readonly node: number[] }
  readonly edgeGrowth: number
  readonly nodeGrowth: number
  /** Requests that still run at the end. */
  readonly leftOver: number
  /** Whether a real answer at the end equals the one before. */
  readonly stillServes: boolean
}

/** Fuzzes the edge in workerd and a gpu node with the real engine through their sockets. */
export async function fuzzOverSockets(
  size: number,
  seed: number,
  log: (line: string) => void,
): Promise<SocketResult> {
  const loggedErrors: string[] = []
  const openEdge = evictableEdge((text) => {
    for (const line of text.split('\n')) if (/"level":"error"|uncaught/i.test(line)) loggedErrors.push(line)
  })
  const fleet = await startFleet({ nodes: 1, openEdge })
  const ends = [fleet.close]
  try {
    const texts = await referenceTexts(fleet)
    const controlSocket = await fuzzControlSocket()
    ends.push(controlSocket.close)
    const turns = inTurns(targetsOf(fleet, controlSocket.send))
    const batchSize = Math.min(MAX_BATCH_SIZE, Math.ceil(size / MIN_BATCHES))
    const failures: string[] = []
    const inputs = new Counts()
    const memory = { edge: [] as number[], node: [] as number[] }
    for (let batch = 0; inputs.total < size; batch++) {
      const target = turns[batch % turns.length]
      if (!target) break
      const left = size - inputs.total
      const cases = fc.sample(target.inputs, {
        seed: seed + batch,
        numRuns: Math.min(batchSize, target.maxBatchSize ?? batchSize, left),
      })
      await inParallel(cases, async (texts) => {
        inputs.add(target.name, texts.length)
        await target.send(texts).catch((error: unknown) => {
          failures.push(`${target.name}, seed ${seed + batch}: ${error}: ${shown(texts)}`)
          log(failures.at(-1) ?? '')
        })
      })
      const { edge, nodes } = fleet.processes()
      memory.edge.push(processUsage(edge).rssMiB)
      memory.node.push(processUsage(nodes).rssMiB)
      if (batch % 100 === 99) log(`${inputs.total} inputs over sockets`)
    }
    const leftOver = await untilIdle(fleet)
    const [[prompt = '', text] = []] = [...texts]
    const after = await readWithFaults(fleet, prompt)
    return {
      inputs,
      failures,
      loggedErrors,
      memory,
      edgeGrowth: growthPercent(memory.edge),
      nodeGrowth: growthPercent(memory.node),
      leftOver,
      stillServes: after.failure === undefined && after.text === text,
    }
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

function targetsOf(
  { url, key, nodeSecret, nodeUrls }: LocalFleet,
  sendToControlSocket: SendInputs,
): Target[] {
  const [nodeUrl = ''] = nodeUrls()
  const frames = (of: readonly object[], maxLength = 3) => fc.array(mutated(of), { minLength: 1, maxLength })
  const body = (of: readonly object[]) => mutated(of).map((text) => [text])
  const noise = fc.array(fc.string({ unit: 'binary', maxLength: 400 }), { minLength: 1, maxLength: 3 })
  const bytes = (of: readonly object[]) => invalidUtf8(mutated(of)).map((one) => [one])
  const large = (of: readonly object[]) =>
    mutated(of).map((text) => [text + ' '.repeat(MAX_FRAME_CHARS + 1 - text.length)])
  const posted = (path: string, of: readonly object[], share: number): Target => {
    const send = fuzzPath(url + path, 'POST', key)
    return { name: `edge, ${path}`, inputs: body(of), send, share }
  }
  const edgeSocket = fuzzEdgeSocket(url, key)
  const nodeSocket = fuzzNodeSocket(nodeUrl, nodeSecret)
  const chat = fuzzPath(`${url}/v1/chat/completions`, 'POST', key)
  const heartbeat = fuzzPath(`${url}/internal/v1/nodes/fuzzed`, 'PUT', nodeSecret)
  const newKey = fuzzPath(`${url}/admin/v1/keys`, 'POST', ADMIN_KEY)
  const changeKey = fuzzPath(`${url}/admin/v1/keys/fuzzed`, 'PATCH', ADMIN_KEY)
  const { CLIENT_FRAMES, CHAT_BODIES, NODE_FRAMES, KEY_BODIES } = examples
  return [
    { name: 'edge, stream frames', inputs: frames(CLIENT_FRAMES), send: edgeSocket, share: 4 },
    {
      name: 'edge, shared-socket frames',
      inputs: frames(examples.MULTIPLEXED_FRAMES, 20),
      send: fuzzSharedSocket(url, key),
      share: 2,
    },
    {
      name: 'edge, frames of a node that dialled in',
      inputs: frames(examples.FROM_DIALLED_IN),
      send: fuzzDialIn(url, nodeSecret),
      share: 2,
    },
    posted('/v1/chat/completions', CHAT_BODIES, 2),
    posted('/v1/completions', examples.COMPLETION_BODIES, 2),
    posted('/v1/responses', examples.RESPONSES_BODIES, 2),
    posted('/v1/messages', examples.MESSAGES_BODIES, 2),
    { name: 'edge, heartbeats', inputs: body(examples.HEARTBEATS), send: heartbeat, share: 1 },
    { name: 'edge, new keys', inputs: body(KEY_BODIES), send: newKey, share: 1 },
    { name: 'edge, changed keys', inputs: body(KEY_BODIES), send: changeKey, share: 1 },
    { name: 'edge, invalid UTF-8 in frames', inputs: bytes(CLIENT_FRAMES), send: edgeSocket, share: 1 },
    { name: 'edge, invalid UTF-8 in bodies', inputs: bytes(CHAT_BODIES), send: chat, share: 1 },
    {
      name: 'edge, oversized frames',
      inputs: large(CLIENT_FRAMES),
      send: edgeSocket,
      share: 1,
      maxBatchSize: LARGE_BATCH_SIZE,
    },
    {
      name: 'edge, oversized bodies',
      inputs: large(CHAT_BODIES),
      send: chat,
      share: 1,
      maxBatchSize: LARGE_BATCH_SIZE,
    },
    { name: 'gpu node, frames', inputs: frames(NODE_FRAMES), send: nodeSocket, share: 7 },
    { name: 'gpu node, invalid UTF-8', inputs: bytes(NODE_FRAMES), send: nodeSocket, share: 1 },
    {
      name: "gpu node, an edge's frames on its control socket",
      inputs: frames(examples.TO_DIALLED_IN, 6),
      send: sendToControlSocket,
      share: 2,
    },
    { name: 'gpu node, noise', inputs: noise, send: fuzzPort(nodeUrl.replace('ws:', 'http:')), share: 1 },
  ]
}

function shown(inputs: readonly Input[]): string {
  return JSON.stringify(
    inputs.map((one) => (typeof one === 'string' ? one : Buffer.from(one).toString('hex'))),
  ).slice(0, 2000)
}

/** The order of batches: each target as often as its share, spread evenly, so that a short run includes all targets. */
function inTurns(targets: readonly Target[]): Target[] {
  const turns = targets.flatMap((target) => {
    return Array.from({ length: target.share }, (_, index) => ({ target, at: (index + 0.5) / target.share }))
  })
  return turns.sort((a, b) => a.at - b.at).map(({ target }) => target)
}

async function inParallel<T>(items: readonly T[], use: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values()
  const worker = async () => {
    for (const item of rest) await use(item)
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, worker))
}

/** Waits until no requests run, with a timeout; returns the number that still run. */
async function untilIdle(fleet: LocalFleet): Promise<number> {
  for (let poll = 0; ; poll++) {
    const loads = await fleet.load()
    const left = loads.reduce((sum, { running, waiting }) => sum + running + waiting, 0)
    if (left === 0 || poll === IDLE_POLLS) return left
    await sleep(IDLE_POLL_MS)
  }
}
