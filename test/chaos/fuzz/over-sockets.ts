import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { growthPercent, processUsage } from '../../../bench/edge/process-usage.ts'
import { MAX_FRAME_CHARS } from '../../../shared/protocol/version.ts'
import { type LocalFleet, startFleet } from '../../e2e/fleet.ts'
import { ADMIN_KEY, evictableEdge } from '../evictable-edge.ts'
import { readWatched, undisturbed } from '../watched-stream.ts'
import { Counts } from './counts.ts'
import { brokenBytes, damaged } from './damage.ts'
import { atControlSocket, atDialIn } from './dialled-sockets.ts'
import * as examples from './examples.ts'
import {
  atEdgeSocket,
  atNodeSocket,
  atPath,
  atPort,
  atSharedSocket,
  type Input,
  type Throw,
} from './sockets.ts'

const AT_A_TIME = 16
const MOST_AT_ONCE = 96
const LEAST_BATCHES = 100
/** Two megabytes each. */
const LARGE = 4
const IDLE_POLLS = 100
const IDLE_POLL_MS = 200

interface Target {
  readonly name: string
  readonly inputs: fc.Arbitrary<readonly Input[]>
  readonly throwAt: Throw
  /** How often its turn comes, beside the others'. */
  readonly share: number
  /** Inputs of one turn, where they are dear. */
  readonly most?: number
}

export interface SocketResult {
  /** By boundary. */
  readonly inputs: Counts
  readonly failures: string[]
  /** Lines in which the edge speaks of a fault of its own. */
  readonly faults: string[]
  readonly edgeGrowth: number
  readonly nodeGrowth: number
  /** Requests that a node still has at the end. */
  readonly leftOver: number
  /** A real answer at the end is what it was before. */
  readonly stillServes: boolean
}

/** The edge in workerd and a gpu node with the real engine, through their sockets. */
export async function fuzzOverSockets(
  size: number,
  seed: number,
  say: (line: string) => void,
): Promise<SocketResult> {
  const faults: string[] = []
  const openEdge = evictableEdge((text) => {
    for (const line of text.split('\n')) if (/"level":"error"|uncaught/i.test(line)) faults.push(line)
  })
  const fleet = await startFleet({ nodes: 1, openEdge })
  const ends = [fleet.close]
  try {
    const texts = await undisturbed(fleet)
    const mad = await atControlSocket()
    ends.push(mad.close)
    const turns = inTurns(targetsOf(fleet, mad.throwAt))
    const most = Math.min(MOST_AT_ONCE, Math.ceil(size / LEAST_BATCHES))
    const failures: string[] = []
    const inputs = new Counts()
    const memory = { edge: [] as number[], node: [] as number[] }
    for (let batch = 0; inputs.total < size; batch++) {
      const target = turns[batch % turns.length]
      if (!target) break
      const left = size - inputs.total
      const cases = fc.sample(target.inputs, {
        seed: seed + batch,
        numRuns: Math.min(most, target.most ?? most, left),
      })
      await inParallel(cases, async (texts) => {
        inputs.add(target.name, texts.length)
        await target.throwAt(texts).catch((error: unknown) => {
          failures.push(`${target.name}, seed ${seed + batch}: ${error}: ${shown(texts)}`)
          say(failures.at(-1) ?? '')
        })
      })
      const { edge, nodes } = fleet.processes()
      memory.edge.push(processUsage(edge).rssMiB)
      memory.node.push(processUsage(nodes).rssMiB)
      if (batch % 100 === 99) say(`${inputs.total} inputs over sockets`)
    }
    const leftOver = await untilIdle(fleet)
    const [[prompt = '', text] = []] = [...texts]
    const after = await readWatched(fleet, prompt)
    return {
      inputs,
      failures,
      faults,
      edgeGrowth: growthPercent(memory.edge),
      nodeGrowth: growthPercent(memory.node),
      leftOver,
      stillServes: after.failure === undefined && after.text === text,
    }
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

function targetsOf({ url, key, nodeSecret, nodeUrls }: LocalFleet, throwAtControl: Throw): Target[] {
  const [nodeUrl = ''] = nodeUrls()
  const frames = (of: readonly object[], maxLength = 3) => fc.array(damaged(of), { minLength: 1, maxLength })
  const body = (of: readonly object[]) => damaged(of).map((text) => [text])
  const noise = fc.array(fc.string({ unit: 'binary', maxLength: 400 }), { minLength: 1, maxLength: 3 })
  const bytes = (of: readonly object[]) => brokenBytes(damaged(of)).map((one) => [one])
  const large = (of: readonly object[]) =>
    damaged(of).map((text) => [text + ' '.repeat(MAX_FRAME_CHARS + 1 - text.length)])
  const posted = (path: string, of: readonly object[], share: number): Target => {
    const throwAt = atPath(url + path, 'POST', key)
    return { name: `edge, ${path}`, inputs: body(of), throwAt, share }
  }
  const atEdge = atEdgeSocket(url, key)
  const atNode = atNodeSocket(nodeUrl, nodeSecret)
  const chat = atPath(`${url}/v1/chat/completions`, 'POST', key)
  const beat = atPath(`${url}/internal/v1/nodes/fuzzed`, 'PUT', nodeSecret)
  const newKey = atPath(`${url}/admin/v1/keys`, 'POST', ADMIN_KEY)
  const change = atPath(`${url}/admin/v1/keys/fuzzed`, 'PATCH', ADMIN_KEY)
  const { CLIENT_FRAMES, CHAT_BODIES, NODE_FRAMES, KEY_BODIES } = examples
  return [
    { name: 'edge, stream frames', inputs: frames(CLIENT_FRAMES), throwAt: atEdge, share: 4 },
    {
      name: 'edge, shared-socket frames',
      inputs: frames(examples.MULTIPLEXED_FRAMES, 20),
      throwAt: atSharedSocket(url, key),
      share: 2,
    },
    {
      name: 'edge, frames of a node that dialled in',
      inputs: frames(examples.FROM_DIALLED_IN),
      throwAt: atDialIn(url, nodeSecret),
      share: 2,
    },
    posted('/v1/chat/completions', CHAT_BODIES, 2),
    posted('/v1/completions', examples.COMPLETION_BODIES, 2),
    posted('/v1/responses', examples.RESPONSES_BODIES, 2),
    posted('/v1/messages', examples.MESSAGES_BODIES, 2),
    { name: 'edge, heart-beats', inputs: body(examples.HEARTBEATS), throwAt: beat, share: 1 },
    { name: 'edge, new keys', inputs: body(KEY_BODIES), throwAt: newKey, share: 1 },
    { name: 'edge, changed keys', inputs: body(KEY_BODIES), throwAt: change, share: 1 },
    { name: 'edge, broken UTF-8 in frames', inputs: bytes(CLIENT_FRAMES), throwAt: atEdge, share: 1 },
    { name: 'edge, broken UTF-8 in bodies', inputs: bytes(CHAT_BODIES), throwAt: chat, share: 1 },
    { name: 'edge, oversized frames', inputs: large(CLIENT_FRAMES), throwAt: atEdge, share: 1, most: LARGE },
    { name: 'edge, oversized bodies', inputs: large(CHAT_BODIES), throwAt: chat, share: 1, most: LARGE },
    { name: 'gpu node, frames', inputs: frames(NODE_FRAMES), throwAt: atNode, share: 7 },
    { name: 'gpu node, broken UTF-8', inputs: bytes(NODE_FRAMES), throwAt: atNode, share: 1 },
    {
      name: "gpu node, an edge's frames on its control socket",
      inputs: frames(examples.TO_DIALLED_IN, 6),
      throwAt: throwAtControl,
      share: 2,
    },
    { name: 'gpu node, noise', inputs: noise, throwAt: atPort(nodeUrl.replace('ws:', 'http:')), share: 1 },
  ]
}

function shown(inputs: readonly Input[]): string {
  return JSON.stringify(
    inputs.map((one) => (typeof one === 'string' ? one : Buffer.from(one).toString('hex'))),
  ).slice(0, 2000)
}

/** Each as often as its share says, spread evenly: also a short run meets all of them. */
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

/** Requests that are left when everything had its time to end. */
async function untilIdle(fleet: LocalFleet): Promise<number> {
  for (let poll = 0; ; poll++) {
    const loads = await fleet.load()
    const left = loads.reduce((sum, { running, waiting }) => sum + running + waiting, 0)
    if (left === 0 || poll === IDLE_POLLS) return left
    await sleep(IDLE_POLL_MS)
  }
}
