import type { Heartbeat, ServedModel } from '../../shared/protocol/fleet.ts'
import { CircuitBreaker } from './circuit-breaker.ts'
import { type Candidate, choose, type RoutingPolicy } from './routing.ts'

/** A gpu node as its last heart-beat described it. Times are in ms since the epoch. */
export interface Member {
  readonly id: string
  readonly heartbeat: Heartbeat
  readonly expiresAt: number
}

export type Choice =
  | { readonly node: { readonly id: string; readonly url: string | undefined } }
  | {
      readonly refused: 'model_not_found' | 'no_gpu_node'
      /** No node at all could take it, so it makes sense to wait for one. */
      readonly wait: boolean
    }

/** How long a node that went away still tells "this model exists" from "never heard of it". */
export const REMEMBER_MS = 24 * 60 * 60 * 1000

/** A node that has just come takes its share little by little: its caches are empty, and everybody would run there. */
const WARM_UP_MS = 10_000
const COLD_SHARE = 0.25
/** With less of its blocks free, a node is about to set branches aside. */
const LOW_BLOCKS = 0.02

export interface Question {
  readonly model: string
  readonly exclude: readonly string[]
  /** The same for all turns of a conversation. */
  readonly affinity?: string | undefined
}

/** Which gpu nodes there are and which one should take a request. Holds no clock and does no I/O. */
export class Roster {
  readonly #members = new Map<string, Member>()
  /** Requests sent to a node since its last heart-beat, which its reported load does not show yet. */
  readonly #assigned = new Map<string, number>()
  /** When a node's present lease began. */
  readonly #since = new Map<string, number>()
  readonly #breaker = new CircuitBreaker()
  readonly #policy: RoutingPolicy

  constructor(policy: RoutingPolicy = 'expected_wait') {
    this.#policy = policy
  }

  /** `now`: when the beat came; without it the node counts as warm. */
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

  isAlive(id: string, now: number): boolean {
    return (this.#members.get(id)?.expiresAt ?? 0) > now
  }

  /** One address is one node: who was there before under another id has been started anew. */
  #endLeasesAt({ id, heartbeat: { url } }: Member, now: number): void {
    for (const other of url === undefined ? [] : this.#members.values()) {
      if (other.id !== id && other.heartbeat.url === url && other.expiresAt > now)
        this.#members.set(other.id, { ...other, expiresAt: now })
    }
  }

  /** Drops who went away long ago; returns their ids. */
  forget(now: number): string[] {
    const gone = [...this.#members.values()].filter(({ expiresAt }) => expiresAt + REMEMBER_MS <= now)
    for (const { id } of gone) {
      this.#members.delete(id)
      this.#since.delete(id)
      this.#breaker.forget(id)
    }
    return gone.map(({ id }) => id)
  }

  /** A request could not be served there. */
  failed(id: string, now: number): void {
    this.#breaker.failed(id, now)
  }

  /** The node that should take a request. `random` is in [0, 1). */
  pick({ model, exclude, affinity = '' }: Question, now: number, random: () => number): Choice {
    const alive = this.#alive(now)
    const willing = alive.filter((member) => serves(member, model) && !member.heartbeat.draining)
    const sound = willing.filter(({ id }) => this.#breaker.allows(id, now))
    // Where all keep failing, one that is tried may still serve; one that is left alone cannot.
    const able = sound.length > 0 ? sound : willing
    const candidates = able
      .filter(({ id }) => !exclude.includes(id))
      .map((member): Candidate => {
        const capacity = member.heartbeat.capacity.branches * this.#warmth(member.id, now)
        return { id: member.id, capacity, wait: this.#work(member) / capacity }
      })
    const chosen = choose(this.#policy, candidates, affinity, random)
    const member = chosen && this.#members.get(chosen.id)
    if (!member) return { refused: this.#refusal(model, alive.length), wait: able.length === 0 }
    this.#assigned.set(member.id, (this.#assigned.get(member.id) ?? 0) + 1)
    this.#breaker.sent(member.id, now)
    return { node: { id: member.id, url: member.heartbeat.url } }
  }

  /** What live nodes serve, each model once, by id. */
  models(now: number): ServedModel[] {
    const models = this.#alive(now).flatMap(({ heartbeat }) => heartbeat.models)
    const byId = new Map(models.map((model) => [model.id, model]))
    return [...byId.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  #alive(now: number): Member[] {
    return [...this.#members.values()].filter(({ expiresAt }) => expiresAt > now)
  }

  /** Requests in hand; a node without blocks has as many waiting as it has places. */
  #work({ id, heartbeat: { load, capacity } }: Member): number {
    const full = load.free_blocks < LOW_BLOCKS * capacity.blocks && load.running > 0
    return load.running + load.waiting + (this.#assigned.get(id) ?? 0) + (full ? capacity.branches : 0)
  }

  /** Share of its places that a node is trusted with. */
  #warmth(id: string, now: number): number {
    const age = now - (this.#since.get(id) ?? Number.NEGATIVE_INFINITY)
    return Math.min(1, COLD_SHARE + (1 - COLD_SHARE) * Math.max(0, age / WARM_UP_MS))
  }

  /** With no node alive nobody can tell which models exist, so that is never the client's mistake. */
  #refusal(model: string, alive: number): 'model_not_found' | 'no_gpu_node' {
    const known = [...this.#members.values()].some((member) => serves(member, model))
    return alive === 0 || known ? 'no_gpu_node' : 'model_not_found'
  }
}

function serves({ heartbeat }: Member, model: string): boolean {
  return heartbeat.models.some(({ id }) => id === model)
}
