import { describe, expect, it } from 'vitest'
import { REMEMBER_MS, Roster } from '../../edge/durable/roster.ts'
import { heartbeat } from './support.ts'

const first = () => 0
const load = (running: number, waiting = 0) => ({ running, waiting, free_blocks: 1 })
const serving = (...ids: string[]) => ids.map((id) => ({ id, created: 1, context_tokens: 512 }))

function rosterOf(members: Record<string, Partial<ReturnType<typeof heartbeat>>>, expiresAt = 100): Roster {
  const roster = new Roster()
  for (const [id, fields] of Object.entries(members)) {
    roster.set({ id, heartbeat: heartbeat({ url: `ws://${id}`, ...fields }), expiresAt })
  }
  return roster
}

function picked(roster: Roster, { model = 'demo', exclude = [] as string[], now = 0, random = first } = {}) {
  const choice = roster.pick(model, exclude, now, random)
  return 'node' in choice ? choice.node.id : choice.refused
}

describe('pick', () => {
  it('takes the node with the least load for its capacity', () => {
    const small = { capacity: { branches: 2, blocks: 1 }, load: load(1) }
    const large = { capacity: { branches: 32, blocks: 1 }, load: load(4, 4) }
    expect(picked(rosterOf({ small, large }))).toBe('large')
  })

  it('counts what it has assigned since the last heart-beat', () => {
    const roster = rosterOf({ a: { load: load(2) }, b: { load: load(0) } })
    expect(Array.from({ length: 5 }, () => picked(roster))).toEqual(['b', 'b', 'a', 'b', 'a'])
    roster.set({ id: 'b', heartbeat: heartbeat({ load: load(0) }), expiresAt: 100 })
    expect(picked(roster)).toBe('b')
  })

  it('draws among equals', () => {
    const draw = (random: number) => picked(rosterOf({ a: {}, b: {}, c: {} }), { random: () => random })
    expect([0, 0.34, 0.99].map(draw)).toEqual(['a', 'b', 'c'])
  })

  it('leaves out excluded nodes, other models and ended leases', () => {
    const roster = rosterOf({ a: {}, b: {}, other: { models: serving('other') } })
    roster.set({ id: 'late', heartbeat: heartbeat(), expiresAt: 10 })
    expect(picked(roster, { exclude: ['a'], now: 10 })).toBe('b')
    expect(picked(roster, { exclude: ['a', 'b'], now: 10 })).toBe('no_gpu_node')
  })
})

describe('a refusal', () => {
  it('is no_gpu_node while there is no node at all, whatever the model', () => {
    expect(picked(new Roster())).toBe('no_gpu_node')
    expect(picked(rosterOf({ a: {} }), { model: 'nope', now: 100 })).toBe('no_gpu_node')
  })

  it('is model_not_found for a model that no live or recent node serves', () => {
    expect(picked(rosterOf({ a: {} }), { model: 'nope' })).toBe('model_not_found')
  })

  it('is no_gpu_node for a model whose only node went away, until that is long ago', () => {
    const roster = rosterOf({ a: {} }, 10 * REMEMBER_MS)
    roster.set({ id: 'gone', heartbeat: heartbeat({ models: serving('rare') }), expiresAt: 10 })
    expect(picked(roster, { model: 'rare', now: 10 })).toBe('no_gpu_node')
    expect(roster.forget(10 + REMEMBER_MS - 1)).toEqual([])
    expect(roster.forget(10 + REMEMBER_MS)).toEqual(['gone'])
    expect(picked(roster, { model: 'rare', now: 10 + REMEMBER_MS })).toBe('model_not_found')
  })
})

it('lists each model of live nodes once, by id', () => {
  const roster = rosterOf({ a: { models: serving('z', 'm') }, b: { models: serving('m') } })
  roster.set({ id: 'gone', heartbeat: heartbeat({ models: serving('a') }), expiresAt: 10 })
  expect(roster.models(10).map(({ id }) => id)).toEqual(['m', 'z'])
})
