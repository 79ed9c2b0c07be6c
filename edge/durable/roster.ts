import type { Heartbeat, ServedModel } from '../../shared/protocol/fleet.ts'

/** A gpu node as its last heart-beat described it. Times are in ms since the epoch. */
export interface Member {
  readonly id: string
  readonly heartbeat: Heartbeat
  readonly expiresAt: number
}

export type Choice =
  | { readonly node: { readonly id: string; readonly url: string } }
  | { readonly refused: 'model_not_found' | 'no_gpu_node' }

/** How long a node that went away still tells "this model exists" from "never heard of it". */
export const REMEMBER_MS = 24 * 60 * 60 * 1000

/** Which gpu nodes there are and which one should take a request. Holds no clock and does no I/O. */
export class Roster {
  readonly #members = new Map<string, Member>()
  /** Requests sent to a node since its last heart-beat, which its reported load does not show yet. */
  readonly #assigned = new Map<string, number>()

  set(member: Member): void {
    this.#members.set(member.id, member)
    this.#assigned.delete(member.id)
  }

  get(id: string): Member | undefined {
    return this.#members.get(id)
  }

  isAlive(id: string, now: number): boolean {
    return (this.#members.get(id)?.expiresAt ?? 0) > now
  }

  /** Drops who went away long ago; returns their ids. */
  forget(now: number): string[] {
    const gone = [...this.#members.values()].filter(({ expiresAt }) => expiresAt + REMEMBER_MS <= now)
    for (const { id } of gone) this.#members.delete(id)
    return gone.map(({ id }) => id)
  }

  /** The live node with the least expected wait, ties drawn by `random` (in [0, 1)). */
  pick(model: string, exclude: readonly string[], now: number, random: () => number): Choice {
    const alive = this.#alive(now)
    const able = alive.filter((member) => serves(member, model) && !exclude.includes(member.id))
    if (able.length === 0) return { refused: this.#refusal(model, alive.length) }
    const least = Math.min(...able.map((member) => this.#expectedWait(member)))
    const tied = able.filter((member) => this.#expectedWait(member) === least)
    const chosen = tied[Math.floor(random() * tied.length)] as Member
    this.#assigned.set(chosen.id, (this.#assigned.get(chosen.id) ?? 0) + 1)
    return { node: { id: chosen.id, url: chosen.heartbeat.url } }
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

  /** Work in hand per place to do it. */
  #expectedWait({ id, heartbeat: { load, capacity } }: Member): number {
    return (load.running + load.waiting + (this.#assigned.get(id) ?? 0)) / capacity.branches
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
