/** A node that could take a request. */
export interface Candidate {
  readonly id: string
  /** Requests that run or are queued, per unit of capacity. */
  readonly wait: number
  /** Branches that the node decodes at the same time; reduced while it warms up. */
  readonly capacity: number
}

export const ROUTING_POLICIES = ['expected_wait', 'lottery', 'prefix_affinity'] as const
export type RoutingPolicy = (typeof ROUTING_POLICIES)[number]

/** A node is loaded when its `wait` is above the first, and above the second times the smallest `wait`. */
const LOADED_WAIT = 1
const LOADED_RATIO = 2

/**
 * Chooses the candidate for a request. `random` is in [0, 1). `affinity` is the same for all turns of a conversation;
 * only `prefix_affinity` uses it.
 */
export function choose(
  policy: RoutingPolicy,
  candidates: readonly Candidate[],
  affinity: string,
  random: () => number,
): Candidate | undefined {
  if (policy === 'lottery') return drawByCapacity(candidates, random)
  if (policy === 'prefix_affinity') return stickTo(candidates, affinity) ?? betterOfTwo(candidates, random)
  return betterOfTwo(candidates, random)
}

/** Power of two choices: nearly as even as least-loaded routing, and a node that has just returned is not flooded. */
function betterOfTwo(candidates: readonly Candidate[], random: () => number): Candidate | undefined {
  const first = Math.floor(random() * candidates.length)
  const second = (first + 1 + Math.floor(random() * (candidates.length - 1))) % candidates.length
  const [a, b] = [candidates[first], candidates[second]]
  return a && b && b.wait < a.wait ? b : a
}

function drawByCapacity(candidates: readonly Candidate[], random: () => number): Candidate | undefined {
  let left = random() * candidates.reduce((sum, { capacity }) => sum + capacity, 0)
  return candidates.find(({ capacity }) => {
    left -= capacity
    return left < 0
  })
}

/**
 * Rendezvous hashing: the node with the highest hash of conversation and node id, unless that node is loaded. When a
 * node is added or removed, only its own conversations move.
 */
function stickTo(candidates: readonly Candidate[], affinity: string): Candidate | undefined {
  let best: { candidate: Candidate; score: number } | undefined
  for (const candidate of candidates) {
    const score = hash(`${affinity}\n${candidate.id}`)
    if (!best || score > best.score) best = { candidate, score }
  }
  if (!best) return undefined
  const { wait } = best.candidate
  const least = Math.min(...candidates.map((candidate) => candidate.wait))
  return wait > LOADED_WAIT && wait > LOADED_RATIO * least ? undefined : best.candidate
}

/** FNV-1a, 32 bits, with a final mix, since node ids often differ only at their end. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  value = Math.imul(value ^ (value >>> 16), 0x45d9f3b)
  return (value ^ (value >>> 16)) >>> 0
}
