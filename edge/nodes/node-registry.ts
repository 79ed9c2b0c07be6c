import { differences, type FingerprintPart } from '../../shared/protocol/fingerprint.ts'
import type { Heartbeat, ServedModel } from '../../shared/protocol/fleet.ts'
import { CircuitBreaker } from './circuit-breaker.ts'
import { OVERDUE_MS } from './lease.ts'
import type { NodeAddress } from './node-socket.ts'
import { type Candidate, choose, type RoutingPolicy } from './routing.ts'

/** A gpu node as of its last heartbeat. Times are in ms since the epoch. */
export interface Member {
  readonly id: string
  readonly heartbeat: Heartbeat
  readonly expiresAt: number
}

export type RouteDecision =
  | { readonly node: NodeAddress }
  | {
      readonly refused: Refusal
      /** No node can take the request, so it may wait for one. False when only the excluded nodes could. */
      readonly wait: boolean
    }

/** `model_changed`: a stream has begun, and the nodes that are left would continue it with other weights. */
export type Refusal = 'model_not_found' | 'no_gpu_node' | 'model_changed'

/** A model as its live nodes serve it. */
export interface FleetModel extends ServedModel {
  /** All that are known; nodes of one model should have one, apart from the device. */
  readonly fingerprints: readonly string[]
  /** In what the nodes differ: streams do not move between them. */
  readonly differs: readonly FingerprintPart[]
}

/** How long the models of a node without a lease count as known: `no_gpu_node` instead of `model_not_found`. */
export const REMEMBER_MS = 24 * 60 * 60 * 1000

/** A new node gets its full share after this time: its caches are empty, and being idle it would get all requests. */
const WARM_UP_MS = 10_000
const COLD_SHARE = 0.25
/** Share of free blocks below which a node is about to preempt branches. */
const LOW_BLOCKS = 0.02

export interface RouteRequest {
  readonly model: string
  readonly exclude: readonly string[]
  /** The same for all turns of a conversation. */
  readonly affinity?: string | undefined
  /** Requests with this affinity stay at one node while it has room, whatever the policy. */
  readonly stays?: boolean | undefined
  /** Of the node that began the stream. */
  readonly fingerprint?: string | undefined
  /** What the node must know of `start`. */
  readonly startFields?: readonly string[] | undefined
}

/** The gpu nodes, and which of them should take a request. Has no clock and does no I/O. */
export class NodeRegistry {
  readonly #members = new Map<string, Member>()
  /** Requests sent to a node since its last heartbeat; the load that it reported does not include them. */
  readonly #assigned = new Map<string, number>()
  /** When a node's present lease began. */
  readonly #since = new Map<string, number>()
  readonly #breaker = new CircuitBreaker()
  readonly #policy: RoutingPolicy

  constructor(policy: RoutingPolicy = 'expected_wait') {
    this.#policy = policy
  }

  /** `now`: when the heartbeat came; undefined for a node restored from storage, which counts as warm. */
  set(member: Member, now?: number): void {
    if (now === undefined) this.#since.delete(member.id)
    else {
      if (!this.isAlive(member.id, now)) this.#since.set(member.id, now)
      this.#endLeasesAt(member, now)
    }
    this.#members.set(member.id, member)
    this.#assigned.delete(member.id)
  }

  get(id: string): Member | undefined {
    return this.#members.get(id)
  }

  /** All that are not forgotten, with a lease or without. */
  members(): Member[] {
    return [...this.#members.values()]
  }

  isAlive(id: string, now: number): boolean {
    return this.leaseMs(id, now) > 0
  }

  /** Time until the node's lease ends; 0 or less when it has ended. */
  leaseMs(id: string, now: number): number {
    return (this.#members.get(id)?.expiresAt ?? 0) - now
  }

  /** One address is one node: a node with another id at the same address was restarted, and its old lease ends. */
  #endLeasesAt({ id, heartbeat: { url } }: Member, now: number): void {
    for (const other of url === undefined ? [] : this.#members.values()) {
      if (other.id !== id && other.heartbeat.url === url && other.expiresAt > now)
        this.#members.set(other.id, { ...other, expiresAt: now })
    }
  }

  /** Removes nodes whose lease ended REMEMBER_MS ago or earlier; returns their ids. */
  forget(now: number): string[] {
    const forgotten = [...this.#members.values()].filter(({ expiresAt }) => expiresAt + REMEMBER_MS <= now)
    for (const { id } of forgotten) {
      this.#members.delete(id)
      this.#since.delete(id)
      this.#breaker.forget(id)
    }
    return forgotten.map(({ id }) => id)
  }

  /** The node failed to serve a request. */
  failed(id: string, now: number): void {
    this.#breaker.failed(id, now)
  }

  /** Chooses a node for a request. `random` is in [0, 1). */
  pick(request: RouteRequest, now: number, random: () => number): RouteDecision {
    const { model, exclude, affinity = '', stays, fingerprint, startFields = [] } = request
    const alive = this.#alive(now)
    const knowing = alive.filter(({ heartbeat }) => {
      const known = heartbeat.capacity.start_fields ?? []
      return startFields.every((field) => known.includes(field))
    })
    const open = knowing.filter((member) => servedBy(member, model) && !member.heartbeat.draining)
    const serving = open.filter((member) => !differs(servedBy(member, model), fingerprint))
    const healthy = serving.filter(({ id }) => this.#breaker.allows(id, now))
    // If the circuits of all nodes are open, trying one is better than refusing the request.
    const usable = healthy.length > 0 ? healthy : serving
    const candidates = usable
      .filter(({ id }) => !exclude.includes(id))
      .map((member): Candidate => {
        const capacity = member.heartbeat.capacity.branches * this.#warmth(member.id, now)
        return { id: member.id, capacity, wait: this.#queued(member) / capacity }
      })
    // After a network failure the lost nodes keep their leases for a while: streams must not move from one to the next.
    const punctual = candidates.filter(({ id }) => this.leaseMs(id, now) > OVERDUE_MS)
    const policy = stays ? 'prefix_affinity' : this.#policy
    const chosen = choose(policy, punctual.length > 0 ? punctual : candidates, affinity, random)
    const member = chosen && this.#members.get(chosen.id)
    if (!member) {
      const refused = serving.length < open.length ? 'model_changed' : this.#refusal(model, alive.length)
      return { refused, wait: usable.length === 0 }
    }
    this.#assigned.set(member.id, (this.#assigned.get(member.id) ?? 0) + 1)
    this.#breaker.sent(member.id, now)
    const { url, capacity } = member.heartbeat
    const contextTokens = servedBy(member, model)?.context_tokens
    return { node: { id: member.id, url, contextTokens, startFields: capacity.start_fields } }
  }

  /** The models of live nodes, each once, in order of id. */
  models(now: number): FleetModel[] {
    const byId = new Map<string, ServedModel[]>()
    for (const model of this.#alive(now).flatMap(({ heartbeat }) => heartbeat.models))
      byId.set(model.id, [...(byId.get(model.id) ?? []), model])
    const models = [...byId.values()].flatMap((served) => served.slice(-1).map((last) => asOne(last, served)))
    return models.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  #alive(now: number): Member[] {
    return [...this.#members.values()].filter(({ expiresAt }) => expiresAt > now)
  }

  /** Requests that a node runs or queues. A node short of blocks counts as if a full batch were waiting, too. */
  #queued({ id, heartbeat: { load, capacity } }: Member): number {
    const full = load.free_blocks < LOW_BLOCKS * capacity.blocks && load.running > 0
    return load.running + load.waiting + (this.#assigned.get(id) ?? 0) + (full ? capacity.branches : 0)
  }

  /** Share of its capacity that a node is given, in [COLD_SHARE, 1]. */
  #warmth(id: string, now: number): number {
    const age = now - (this.#since.get(id) ?? Number.NEGATIVE_INFINITY)
    return Math.min(1, COLD_SHARE + (1 - COLD_SHARE) * Math.max(0, age / WARM_UP_MS))
  }

  /** With no live node it is unknown which models exist, so the client's model is not reported as wrong. */
  #refusal(model: string, alive: number): 'model_not_found' | 'no_gpu_node' {
    const known = [...this.#members.values()].some((member) => servedBy(member, model))
    return alive === 0 || known ? 'no_gpu_node' : 'model_not_found'
  }
}

function servedBy({ heartbeat }: Member, model: string): ServedModel | undefined {
  return heartbeat.models.find(({ id }) => id === model)
}

function differs(served: ServedModel | undefined, fingerprint: string | undefined): boolean {
  return differences([served?.fingerprint, fingerprint]).length > 0
}

function asOne(model: ServedModel, served: readonly ServedModel[]): FleetModel {
  const known = served.flatMap(({ fingerprint }) => fingerprint ?? [])
  return { ...model, fingerprints: [...new Set(known)].sort(), differs: differences(known) }
}
