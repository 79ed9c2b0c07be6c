import { describe, expect, it } from 'vitest'
import { OVERDUE_MS } from '../../edge/nodes/lease.ts'
import { NodeRegistry, REMEMBER_MS } from '../../edge/nodes/node-registry.ts'
import { choose } from '../../edge/nodes/routing.ts'
import { heartbeat } from './support.ts'

const first = () => 0
const load = (running: number, waiting = 0) => ({ running, waiting, free_blocks: 50 })
const serving = (...ids: string[]) => ids.map((id) => ({ id, created: 1, context_tokens: 512 }))

function registryOf(
  members: Record<string, Partial<ReturnType<typeof heartbeat>>>,
  expiresAt = 100,
): NodeRegistry {
  const registry = new NodeRegistry()
  for (const [id, fields] of Object.entries(members)) {
    registry.set({ id, heartbeat: heartbeat({ url: `ws://${id}`, ...fields }), expiresAt })
  }
  return registry
}

function picked(
  registry: NodeRegistry,
  { model = 'demo', exclude = [] as string[], now = 0, random = first } = {},
) {
  const decision = registry.pick({ model, exclude }, now, random)
  return 'node' in decision ? decision.node.id : decision.refused
}

describe('pick', () => {
  it('chooses the node with the least load for its capacity', () => {
    const small = { capacity: { branches: 2, blocks: 100 }, load: load(1) }
    const large = { capacity: { branches: 32, blocks: 100 }, load: load(4, 4) }
    expect(picked(registryOf({ small, large }))).toBe('large')
  })

  it('counts the requests assigned since the last heartbeat', () => {
    const registry = registryOf({ a: { load: load(2) }, b: { load: load(0) } })
    expect(Array.from({ length: 5 }, () => picked(registry))).toEqual(['b', 'b', 'a', 'b', 'a'])
    registry.set({ id: 'b', heartbeat: heartbeat({ load: load(0) }), expiresAt: 100 })
    expect(picked(registry)).toBe('b')
  })

  it('chooses randomly among equals', () => {
    const draw = (random: number) => picked(registryOf({ a: {}, b: {}, c: {} }), { random: () => random })
    expect([0, 0.34, 0.99].map(draw)).toEqual(['a', 'b', 'c'])
  })

  it('treats a new id at a known address as the same node, restarted', () => {
    const registry = registryOf({ old: { url: 'ws://one' }, other: {} })
    registry.set({ id: 'new', heartbeat: heartbeat({ url: 'ws://one' }), expiresAt: 100 }, 5)
    expect(registry.isAlive('old', 5)).toBe(false)
    expect([registry.isAlive('new', 5), registry.isAlive('other', 5)]).toEqual([true, true])
    expect(picked(registry, { exclude: ['other'], now: 5 })).toBe('new')
  })

  it('prefers nodes whose last heartbeat is not overdue', () => {
    const registry = registryOf({ late: {} }, OVERDUE_MS)
    expect(picked(registry)).toBe('late')
    registry.set({ id: 'punctual', heartbeat: heartbeat({ load: load(50) }), expiresAt: OVERDUE_MS + 1 })
    expect(picked(registry)).toBe('punctual')
    expect(picked(registry, { exclude: ['punctual'] })).toBe('late')
  })

  it('leaves out excluded nodes, other models and ended leases', () => {
    const registry = registryOf({ a: {}, b: {}, other: { models: serving('other') } })
    registry.set({ id: 'late', heartbeat: heartbeat(), expiresAt: 10 })
    expect(picked(registry, { exclude: ['a'], now: 10 })).toBe('b')
    expect(picked(registry, { exclude: ['a', 'b'], now: 10 })).toBe('no_gpu_node')
  })
})

it('a stream goes on only where all that its request needs is known', () => {
  const capacity = { branches: 8, blocks: 100, start_fields: ['tenant', 'stop_scope'] }
  const registry = registryOf({ a: {}, b: {}, c: { capacity, load: load(8) } })
  const ask = { model: 'demo', exclude: [], startFields: ['stop_scope'] }
  expect(registry.pick(ask, 0, first)).toMatchObject({ node: { id: 'c' } })
  const none = { refused: 'no_gpu_node', wait: true }
  expect(registryOf({ a: {}, b: {} }).pick(ask, 0, first)).toEqual(none)
})

describe('a refusal', () => {
  it('is no_gpu_node while there is no node at all, whatever the model', () => {
    expect(picked(new NodeRegistry())).toBe('no_gpu_node')
    expect(picked(registryOf({ a: {} }), { model: 'nope', now: 100 })).toBe('no_gpu_node')
  })

  it('is model_not_found for a model that no live or recent node serves', () => {
    expect(picked(registryOf({ a: {} }), { model: 'nope' })).toBe('model_not_found')
  })

  it('is no_gpu_node for a model whose only node went away, until that node is forgotten', () => {
    const registry = registryOf({ a: {} }, 10 * REMEMBER_MS)
    registry.set({ id: 'gone', heartbeat: heartbeat({ models: serving('rare') }), expiresAt: 10 })
    expect(picked(registry, { model: 'rare', now: 10 })).toBe('no_gpu_node')
    expect(registry.forget(10 + REMEMBER_MS - 1)).toEqual([])
    expect(registry.forget(10 + REMEMBER_MS)).toEqual(['gone'])
    expect(picked(registry, { model: 'rare', now: 10 + REMEMBER_MS })).toBe('model_not_found')
  })
})

describe('a node', () => {
  const spread = (registry: NodeRegistry, now: number) => {
    let seed = 1
    const random = () => {
      seed = (seed * 16_807) % 2_147_483_647
      return seed / 2_147_483_647
    }
    const counts = new Map<string, number>()
    for (let i = 0; i < 400; i++) {
      const id = picked(registry, { now, random })
      counts.set(id, (counts.get(id) ?? 0) + 1)
    }
    return counts
  }

  it('that drains gets no requests', () => {
    expect(picked(registryOf({ a: { draining: true }, b: { load: load(50) } }))).toBe('b')
    expect(picked(registryOf({ a: { draining: true } }))).toBe('no_gpu_node')
  })

  it('that is new gets less than its share, later all of it', () => {
    const warm = new NodeRegistry()
    const member = (id: string) => ({ id, heartbeat: heartbeat({ url: `ws://${id}` }), expiresAt: 1e6 })
    for (const id of ['a', 'b', 'c']) warm.set(member(id), 0)
    warm.set(member('new'), 60_000)
    const cold = spread(warm, 60_000).get('new') ?? 0
    for (const id of ['a', 'b', 'c', 'new']) warm.set(member(id), 61_000)
    const later = spread(warm, 120_000).get('new') ?? 0
    expect(cold).toBeGreaterThan(0)
    expect(cold).toBeLessThan(60)
    expect(later).toBeGreaterThan(80)
  })

  it('that keeps failing gets no requests, then one trial request', () => {
    const registry = registryOf({ a: {}, b: { load: load(90) } }, 1e6)
    for (let i = 0; i < 3; i++) {
      expect(picked(registry)).toBe('a')
      registry.failed('a', 0)
    }
    expect(picked(registry, { now: 1_999 })).toBe('b')
    expect(picked(registry, { now: 2_000 })).toBe('a')
    expect(picked(registry, { now: 2_000 })).toBe('b')
    registry.failed('a', 2_001)
    expect(picked(registry, { now: 6_000 })).toBe('b')
    // A trial request that does not fail closes the circuit.
    const later = [6_001, 6_002, 12_001, 12_002].map((now) => picked(registry, { now }))
    expect(later).toEqual(['a', 'b', 'a', 'a'])
  })

  it('that hangs gets one trial request at a time, however long that takes to fail', () => {
    const registry = registryOf({ a: {}, b: { load: load(90) } }, 1e6)
    for (let i = 0; i < 3; i++) registry.failed('a', 0)
    const failing: number[] = []
    let sent = 0
    for (let now = 2_000; now < 60_000; now += 100) {
      if (failing[0] !== undefined && failing[0] <= now) registry.failed('a', failing.shift() ?? 0)
      if (picked(registry, { now }) !== 'a') continue
      failing.push(now + 5_000)
      sent++
      expect(failing).toHaveLength(1)
    }
    expect(sent).toBeGreaterThan(1)
  })

  it('that stays goes to one node whatever the policy, until that is loaded', () => {
    const registry = registryOf({ a: {}, b: {} })
    const pick = (now: number) => {
      const decision = registry.pick(
        { model: 'demo', exclude: [], affinity: 'x', stays: true },
        now,
        Math.random,
      )
      return 'node' in decision ? decision.node.id : undefined
    }
    const home = pick(5)
    expect(home).toBeDefined()
    expect([pick(5), pick(5), pick(5)]).toEqual([home, home, home])
    const homes = new Set(Array.from({ length: 40 }, () => pick(5)))
    expect(homes.size).toBe(2)
  })

  it('without free blocks counts as loaded', () => {
    const full = { load: { running: 1, waiting: 0, free_blocks: 0 } }
    expect(picked(registryOf({ full, b: { load: { ...load(4), free_blocks: 90 } } }))).toBe('b')
  })
})

describe('choose', () => {
  const candidate = (id: string, wait: number, capacity = 1) => ({ id, wait, capacity })

  it('by lottery gives each its share of the capacity', () => {
    const nodes = [candidate('a', 9, 1), candidate('b', 0, 3)]
    const draw = (random: number) => choose('lottery', nodes, '', () => random)?.id
    expect([0, 0.24, 0.26, 0.99].map(draw)).toEqual(['a', 'a', 'b', 'b'])
  })

  it('by affinity keeps a conversation on its node when other nodes come or go', () => {
    const nodes = ['a', 'b', 'c', 'd'].map((id) => candidate(id, 0))
    const home = (affinity: string, of = nodes) => choose('prefix_affinity', of, affinity, first)?.id
    const names = Array.from({ length: 200 }, (_, i) => `conversation ${i}`)
    const homes = names.map((name) => home(name))
    expect(names.map((name) => home(name))).toEqual(homes)
    for (const { id } of nodes) expect(homes.filter((at) => at === id).length).toBeGreaterThan(20)
    const rest = nodes.filter(({ id }) => id !== 'd')
    names.forEach((name, i) => {
      if (homes[i] !== 'd') expect(home(name, rest)).toBe(homes[i])
    })
  })

  it('by affinity leaves a loaded node', () => {
    const home = choose('prefix_affinity', [candidate('a', 0), candidate('b', 0)], 'x', first)?.id
    const nodes = ['a', 'b'].map((id) => candidate(id, id === home ? 3 : 0.5))
    expect(choose('prefix_affinity', nodes, 'x', first)?.id).not.toBe(home)
    const busy = ['a', 'b'].map((id) => candidate(id, id === home ? 0.9 : 0))
    expect(choose('prefix_affinity', busy, 'x', first)?.id).toBe(home)
  })
})

it('lists each model of live nodes once, by id', () => {
  const registry = registryOf({ a: { models: serving('z', 'm') }, b: { models: serving('m') } })
  registry.set({ id: 'gone', heartbeat: heartbeat({ models: serving('a') }), expiresAt: 10 })
  expect(registry.models(10).map(({ id }) => id)).toEqual(['m', 'z'])
})
