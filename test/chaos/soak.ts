import { setTimeout as sleep } from 'node:timers/promises'
import { growthPercent, processUsage } from '../../bench/edge/process-usage.ts'
import { type LocalFleet, startFleet } from '../e2e/fleet.ts'
import { evictableEdge } from './evictable-edge.ts'
import { PROMPTS, readWithFaults, type StreamControls, type Target } from './fault-injection.ts'
import { inTime } from './in-time.ts'
import { count, flat, never, type Scenario, seeded } from './scenario.ts'

/** Concurrent requests that saturate the engine. */
const SATURATING_REQUESTS = 16
/** Share of the soak's time that measures the machine's capacity. */
const CAPACITY_SHARE = 0.1
const LOAD = 0.7
/** A request that takes longer counts as hung; the demo model's answers are much faster at any load. */
const HANG_MS = 60_000
const SAMPLE_MS = 1_000
/**
 * Time in which handles of ended streams are closed: workerd keeps their objects for up to 70 s, and idle
 * connections close.
 */
const SETTLE_MS = 90_000
const SETTLE_POLL_MS = 500

/** Kinds of requests; the number of entries is the frequency in ten. */
const KINDS = ['read', 'read', 'read', 'read', 'sse', 'sse', 'sse', 'drop', 'drop', 'cancel'] as const
type Kind = (typeof KINDS)[number]

/**
 * Sends requests of all kinds at 70 % of the measured capacity and checks that memory and open handles do not
 * grow. Real engine, demo model. `size` is in seconds.
 */
export const soak: Scenario = async ({ size, seed, log, record }) => {
  const random = seeded(seed)
  const fleet = await startFleet({ nodes: 1, openEdge: evictableEdge(() => {}) })
  try {
    const usage = () => {
      const { edge, nodes } = fleet.processes()
      return { edge: processUsage(edge), node: processUsage(nodes) }
    }
    const request: MakeRequest = (index) => {
      const kind = KINDS[index % KINDS.length] ?? 'read'
      const prompt = PROMPTS[Math.floor(random() * PROMPTS.length)] ?? ''
      return { kind, run: () => inTime(perform(fleet, kind, prompt, random), HANG_MS) }
    }
    // One request of each kind first, because it creates objects and connections that stay open.
    for (const index of KINDS.keys()) await request(index).run()
    const before = usage()
    const perSecond = await capacity(size * CAPACITY_SHARE, request)
    log(`${perSecond.toFixed(1)} requests/s at most`)
    const samples: ReturnType<typeof usage>[] = []
    const watch = setInterval(() => {
      samples.push(usage())
      record({ seconds: samples.length, ...samples.at(-1) })
      if (samples.length % 60 === 0) log(`${samples.length} s`)
    }, SAMPLE_MS)
    const { sent, failures } = await atRate(LOAD * perSecond, size * (1 - CAPACITY_SHARE), random, request)
    clearInterval(watch)
    for (const failure of failures) log(failure)
    const added = ({ edge, node }: ReturnType<typeof usage>) =>
      edge.handles + node.handles - before.edge.handles - before.node.handles
    // The load below is read over connections of its own: handles are counted before that.
    let after = usage()
    for (let waited = 0; added(after) > 0 && waited < SETTLE_MS; waited += SETTLE_POLL_MS) {
      await sleep(SETTLE_POLL_MS)
      after = usage()
    }
    record({ before, after, perSecond, sent })
    const left = (await fleet.load()).reduce((sum, { running, waiting }) => sum + running + waiting, 0)
    const name = `soak of ${size} s at ${LOAD * 100} % load`
    return [
      flat(
        `${name}: growth of the edge's memory`,
        growthPercent(samples.map(({ edge }) => edge.rssMiB)),
        size,
      ),
      flat(
        `${name}: growth of the gpu node's memory`,
        growthPercent(samples.map(({ node }) => node.rssMiB)),
        size,
      ),
      never(`${name}: more handles open after it than before`, Math.max(0, added(after)), 'handles'),
      never(`${name}: requests failed`, failures.length, 'requests'),
      never(`${name}: requests left running`, left, 'requests'),
      count(`${name}: requests`, sent, 'requests'),
      count(`${name}: requests per second`, sent / (size * (1 - CAPACITY_SHARE)), 'requests/s'),
    ]
  } finally {
    await fleet.close()
  }
}

type MakeRequest = (index: number) => { kind: Kind; run: () => Promise<void> }

/** Measures the requests per second under saturation. */
async function capacity(seconds: number, request: MakeRequest): Promise<number> {
  const begun = performance.now()
  const elapsed = () => (performance.now() - begun) / 1000
  let next = 0
  const worker = async () => {
    while (elapsed() < seconds) await request(next++).run()
  }
  await Promise.all(Array.from({ length: SATURATING_REQUESTS }, worker))
  return next / elapsed()
}

/** Sends requests at random times (a Poisson process) with this average rate, without waiting for earlier ones. */
async function atRate(perSecond: number, seconds: number, random: () => number, request: MakeRequest) {
  const failures: string[] = []
  const running = new Set<Promise<void>>()
  const end = performance.now() + seconds * 1000
  let sent = 0
  for (let due = performance.now(); due < end; due += (-Math.log(1 - random()) / perSecond) * 1000) {
    await sleep(Math.max(0, due - performance.now()))
    const { kind, run } = request(sent++)
    const done: Promise<void> = run()
      .catch((error: unknown) => void failures.push(`${kind}: ${error}`))
      .finally(() => running.delete(done))
    running.add(done)
  }
  await Promise.all(running)
  return { sent, failures }
}

async function perform(fleet: LocalFleet, kind: Kind, prompt: string, random: () => number): Promise<void> {
  if (kind === 'sse') return await completeOverSse(fleet, prompt)
  let faultAt = kind === 'read' ? Number.POSITIVE_INFINITY : 1 + Math.floor(random() * 60)
  const injectFault = (controls: StreamControls) => {
    if (controls.events < faultAt) return
    faultAt = Number.POSITIVE_INFINITY
    if (kind === 'drop') controls.disconnect()
    else controls.cancel()
  }
  const { failure } = await readWithFaults(fleet, prompt, injectFault)
  if (failure !== undefined && !(kind === 'cancel' && failure.includes('abort'))) throw new Error(failure)
}

async function completeOverSse({ url, key }: Target, prompt: string): Promise<void> {
  const messages = [{ role: 'user', content: prompt }]
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'demo', stream: true, temperature: 0, messages }),
  })
  const text = await response.text()
  if (response.status !== 200 || !text.includes('[DONE]'))
    throw new Error(`${response.status} ${text.slice(-200)}`)
}
