import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { growthPercent, processUsage } from '../../../bench/edge/process-usage.ts'
import { type LocalFleet, startFleet } from '../../e2e/fleet.ts'
import { ADMIN_KEY, evictableEdge } from '../evictable-edge.ts'
import { readWatched, undisturbed } from '../watched-stream.ts'
import { damaged } from './damage.ts'
import * as examples from './examples.ts'
import { atEdgeSocket, atNodeSocket, atPath, atPort, type Throw } from './sockets.ts'

const AT_A_TIME = 16
const MOST_AT_ONCE = 96
const LEAST_BATCHES = 100
const IDLE_POLLS = 100
const IDLE_POLL_MS = 200

interface Target {
  readonly name: string
  readonly inputs: fc.Arbitrary<readonly string[]>
  readonly throwAt: Throw
  /** Of 20 batches. */
  readonly share: number
}

export interface SocketResult {
  readonly inputs: { edge: number; node: number }
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
  try {
    const texts = await undisturbed(fleet)
    const turns = inTurns(targetsOf(fleet))
    const most = Math.min(MOST_AT_ONCE, Math.ceil(size / LEAST_BATCHES))
    const failures: string[] = []
    const inputs = { edge: 0, node: 0 }
    const memory = { edge: [] as number[], node: [] as number[] }
    for (let batch = 0; inputs.edge + inputs.node < size; batch++) {
      const target = turns[batch % turns.length]
      if (!target) break
      const left = size - inputs.edge - inputs.node
      const cases = fc.sample(target.inputs, { seed: seed + batch, numRuns: Math.min(most, left) })
      await inParallel(cases, async (texts) => {
        inputs[target.name.startsWith('gpu node') ? 'node' : 'edge'] += texts.length
        await target.throwAt(texts).catch((error: unknown) => {
          failures.push(
            `${target.name}, seed ${seed + batch}: ${error}: ${JSON.stringify(texts).slice(0, 2000)}`,
          )
          say(failures.at(-1) ?? '')
        })
      })
      const { edge, nodes } = fleet.processes()
      memory.edge.push(processUsage(edge).rssMiB)
      memory.node.push(processUsage(nodes).rssMiB)
      if (batch % 100 === 99) say(`${inputs.edge} inputs for the edge, ${inputs.node} for the gpu node`)
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
    await fleet.close()
  }
}

function targetsOf({ url, key, nodeSecret, nodeUrls }: LocalFleet): Target[] {
  const [nodeUrl = ''] = nodeUrls()
  const frames = (of: readonly object[]) => fc.array(damaged(of), { minLength: 1, maxLength: 3 })
  const body = (of: readonly object[]) => damaged(of).map((text) => [text])
  const noise = fc.array(fc.string({ unit: 'binary', maxLength: 400 }), { minLength: 1, maxLength: 3 })
  const chat = atPath(`${url}/v1/chat/completions`, 'POST', key)
  const completion = atPath(`${url}/v1/completions`, 'POST', key)
  const beat = atPath(`${url}/internal/v1/nodes/fuzzed`, 'PUT', nodeSecret)
  const newKey = atPath(`${url}/admin/v1/keys`, 'POST', ADMIN_KEY)
  const change = atPath(`${url}/admin/v1/keys/fuzzed`, 'PATCH', ADMIN_KEY)
  return [
    {
      name: 'edge, frames',
      inputs: frames(examples.CLIENT_FRAMES),
      throwAt: atEdgeSocket(url, key),
      share: 5,
    },
    { name: 'edge, chat', inputs: body(examples.CHAT_BODIES), throwAt: chat, share: 2 },
    { name: 'edge, completions', inputs: body(examples.COMPLETION_BODIES), throwAt: completion, share: 2 },
    { name: 'edge, heart-beats', inputs: body(examples.HEARTBEATS), throwAt: beat, share: 1 },
    { name: 'edge, new keys', inputs: body(examples.KEY_BODIES), throwAt: newKey, share: 1 },
    { name: 'edge, changed keys', inputs: body(examples.KEY_BODIES), throwAt: change, share: 1 },
    {
      name: 'gpu node, frames',
      inputs: frames(examples.NODE_FRAMES),
      throwAt: atNodeSocket(nodeUrl, nodeSecret),
      share: 7,
    },
    { name: 'gpu node, noise', inputs: noise, throwAt: atPort(nodeUrl.replace('ws:', 'http:')), share: 1 },
  ]
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
