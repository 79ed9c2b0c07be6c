/** What routing knows of a node that could take a request. */
export interface Candidate {
  readonly id: string
  /** Work in hand per place to do it. */
  readonly wait: number
  /** Places, fewer while the node warms up. */
  readonly capacity: number
}

export const ROUTING_POLICIES = ['expected_wait', 'lottery', 'prefix_affinity'] as const
export type RoutingPolicy = (typeof ROUTING_POLICIES)[number]

/** A node with more work than places, and this many times the work of the best one, is loaded. */
const LOADED_WAIT = 1
const LOADED_RATIO = 2

/**
 * The candidate that should take a request. `random` is in [0, 1). `affinity` is the same for all turns of a conversation;
 * only `prefix_affinity` looks at it.
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

/** Two random choices: nearly as even as the best of all, but a node that has just come back is not overrun. */
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
 * The node that a conversation hashes to, unless it is loaded. By the highest hash of both (rendezvous): when a node comes
 * or goes, only its own conversations move.
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

/** FNV-1a, 32 bits, with its bits mixed once more: the ids differ at the end only. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  value = Math.imul(value ^ (value >>> 16), 0x45d9f3b)
  return (value ^ (value >>> 16)) >>> 0
}
