import { fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from '../../cli/bench/percentile.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { now, PACED_MODEL } from '../edge/paced-engine.ts'
import { type PacedStack, startPacedStack } from '../edge/paced-stack.ts'
import type { BenchCase, SampleFile } from '../report.ts'

const STEP_MS = 10
/** What one prompt of an attacker has: as much as a body may, and more tokens than any model's context. */
const PROMPT_CHARACTERS = 1_800_000
/** Characters of one message, at most 1,000,000. */
const MESSAGE_CHARACTERS = 900_000
const PROBE_EVERY_MS = 20
const ASK_EVERY_MS = 200

interface Seen {
  /** Round trips of /healthz, ms: what a heartbeat or a cancel would wait for the node's main thread. */
  readonly control: number[]
  /** Times of short chats, ms. */
  readonly short: number[]
  readonly errors: number
}

/** Long prompts, beside which a short-prompt user and the node's control plane must not notice anything. */
export async function longPromptsEncoded(quick: boolean, file: SampleFile): Promise<BenchCase[]> {
  const stack = await startPacedStack(STEP_MS)
  const seconds = quick ? 5 : 30
  try {
    await watch(stack, 1)
    const alone = await watch(stack, seconds)
    const given = new AbortController()
    // Made before the measurement, which runs in the same process.
    const bodies = Array.from({ length: quick ? 4 : 8 }, (_, index) => longBody(index))
    const attack = bodies.map((body) => send(stack, body, given.signal).then(drain, () => {}))
    const beside = await watch(stack, seconds)
    given.abort()
    await Promise.all(attack)
    file.add({ bench: 'hostile', case: 'long prompts', alone, beside })
    return cases(alone, beside)
  } finally {
    await stack.close()
  }
}

function cases(alone: Seen, beside: Seen): BenchCase[] {
  const name = (what: string) => `long prompts: ${what}`
  const lower = { unit: 'ms', better: 'lower' } as const
  return [
    { case: name('control latency, max'), ...lower, value: Math.max(...beside.control), goal: 100 },
    { case: name('control latency alone, max'), ...lower, value: Math.max(...alone.control), goal: null },
    { case: name('short chat, p50'), ...lower, value: percentile(beside.short, 50), goal: null },
    { case: name('short chat alone, p50'), ...lower, value: percentile(alone.short, 50), goal: null },
    { case: name('errors of short chats'), unit: 'errors', better: 'lower', value: beside.errors, goal: 0 },
  ]
}

async function watch(stack: PacedStack, seconds: number): Promise<Seen> {
  const until = now() + seconds * 1000
  const seen = { control: [] as number[], short: [] as number[], errors: 0 }
  const probe = fork(join(packageRoot, 'bench/hostile/control-probe.mjs'), {
    env: {
      ...process.env,
      URL: `${stack.nodeUrl.replace('ws', 'http')}/healthz`,
      EVERY_MS: String(PROBE_EVERY_MS),
    },
  })
  probe.on('message', (ms: number) => seen.control.push(ms))
  const ask = async () => {
    while (now() < until) {
      const begun = now()
      const answer = await send(stack, bodyOf([{ role: 'user', content: 'Hello' }]))
      await drain(answer)
      if (answer.ok) seen.short.push(now() - begun)
      else seen.errors++
      await sleep(ASK_EVERY_MS)
    }
  }
  await ask()
  probe.disconnect()
  return seen
}

function longBody(index: number): Buffer {
  const words = `The quick brown fox ${index} jumps over the lazy dog. `
  const message = { role: 'user', content: words.repeat(MESSAGE_CHARACTERS / words.length) }
  return bodyOf(Array.from({ length: PROMPT_CHARACTERS / MESSAGE_CHARACTERS }, () => message))
}

function bodyOf(messages: object[]): Buffer {
  return Buffer.from(
    JSON.stringify({ model: PACED_MODEL, messages, max_tokens: 2, apar: { enabled: false } }),
  )
}

function send(stack: PacedStack, body: Buffer, signal?: AbortSignal): Promise<Response> {
  return fetch(`${stack.edgeUrl}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
    body: new Uint8Array(body),
    ...(signal && { signal }),
  })
}

async function drain(answer: Response): Promise<void> {
  await answer.arrayBuffer()
}
