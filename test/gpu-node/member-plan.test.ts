import { expect, test } from 'vitest'
import type { Tag } from '../../gpu-node/grammar/tag-grammar.ts'
import {
  type PlanLimits,
  type PlannedBranch,
  pathsOf,
  planMembers,
} from '../../gpu-node/members/member-plan.ts'

const INTEGER = { type: 'integer' }

function object(properties: Record<string, unknown>, more: object = {}): Record<string, unknown> {
  return { type: 'object', properties, required: Object.keys(properties), ...more }
}

/** Each branch's own text, with V for its values and the children in parentheses; undefined without a plan. */
function drawn(schema: Record<string, unknown>, limits: PlanLimits = { branches: 32, depth: 16 }) {
  const draw = (branch: PlannedBranch): string => {
    if ('children' in branch)
      return `${branch.open}${branch.children.map((child) => `(${draw(child)})`).join(' "')}${branch.close}`
    return drawnTag(branch.tag)
  }
  const drawnTag = ({ type, value = 'V', elements, content }: Tag): string => {
    if (type === 'optional') return `[${content ? drawnTag(content) : ''}]`
    return elements ? elements.map(drawnTag).join('') : value
  }
  const plan = planMembers(schema, limits)
  return plan && draw(plan)
}

test('each member of an object is a branch, which ends as the member does in an answer on one line', () => {
  expect(drawn(object({ name: INTEGER, 'a "key"\n': INTEGER, é: INTEGER }))).toBe(
    String.raw`{"(name": V,) "(a \"key\"\n": V,) "(é": V})`,
  )
})

test('an object that might have any other members has none', () => {
  const schema = object({ a: INTEGER, b: INTEGER })
  for (const additionalProperties of [true, {}, false])
    expect(drawn({ ...schema, additionalProperties })).toBe(drawn(schema))
})

test('members of objects in it are branches, too, the outer ones first where the limits do not allow all', () => {
  const deep = object({ a: object({ b: object({ c: INTEGER, d: INTEGER }), e: INTEGER }), f: INTEGER })
  expect(drawn(deep)).toBe('{"(a": {"(b": {"(c": V,) "(d": V}),) "(e": V}),) "(f": V})')
  expect(drawn(deep, { branches: 32, depth: 3 })).toBe('{"(a": {"(b": V,) "(e": V}),) "(f": V})')
  expect(drawn(deep, { branches: 5, depth: 16 })).toBe('{"(a": {"(b": V,) "(e": V}),) "(f": V})')
  expect(drawn(deep, { branches: 4, depth: 16 })).toBe('{"(a": V,) "(f": V})')
  expect(drawn(deep, { branches: 32, depth: 1 })).toBeUndefined()
})

test('members share branches where there are more than may live', () => {
  const five = object(Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((key) => [key, INTEGER])))
  expect(drawn(five, { branches: 3, depth: 2 })).toBe('{"(a": V, "b": V,) "(c": V, "d": V, "e": V})')
  expect(drawn(five, { branches: 2, depth: 2 })).toBeUndefined()
})

test('an object that only wraps another is gone through', () => {
  expect(drawn(object({ a: object({ b: INTEGER, c: INTEGER }) }))).toBe('{"(a": {"(b": V,) "(c": V})})')
  expect(drawn(object({ a: object({ b: INTEGER }) }))).toBeUndefined()
})

test('optional members behind the required ones may follow in the branch of the last of these', () => {
  const schema = (required: string[]) =>
    object({ a: INTEGER, b: object({ x: INTEGER, y: INTEGER }), c: INTEGER, d: INTEGER }, { required })
  expect(drawn(schema(['a', 'b']))).toBe('{"(a": V,) "(b": V[, "c": V][, "d": V]})')
  expect(drawn(schema(['a', 'b', 'c']))).toBe('{"(a": V,) "(b": {"(x": V,) "(y": V}),) "(c": V[, "d": V]})')
  expect(drawn(schema(['a', 'b', 'c']), { branches: 3, depth: 16 })).toBe(
    '{"(a": V,) "(b": V, "c": V[, "d": V]})',
  )
  expect(drawn(schema(['a']))).toBeUndefined()
  expect(drawn(schema(['a', 'c', 'd']))).toBeUndefined()
})

test('definitions go with the parts that refer to them', () => {
  const $defs = { pair: object({ x: { $ref: '#/$defs/n' }, y: INTEGER }), n: INTEGER }
  const schema = { ...object({ a: { $ref: '#/$defs/pair' }, b: { $ref: '#/$defs/n' } }), $defs }
  expect(drawn(schema)).toBe('{"(a": {"(x": V,) "(y": V}),) "(b": V})')
  const plan = planMembers(schema, { branches: 3, depth: 2 })
  const schemas = plan?.children.map((child) => 'tag' in child && child.tag.elements?.[1]?.json_schema)
  expect(schemas?.[1]).toMatchObject({ $ref: '#/$defs/n', $defs: { n: INTEGER } })
  expect(drawn({ $ref: '#/$defs/pair', $defs })).toBe('{"(x": V,) "(y": V})')
})

test.each<[string, Record<string, unknown>]>([
  ['an optional member first', object({ a: INTEGER, b: INTEGER, c: INTEGER }, { required: ['b', 'c'] })],
  ['one required member', object({ a: INTEGER, b: INTEGER }, { required: ['a'] })],
  ['optional members only', { type: 'object', properties: { a: INTEGER, b: INTEGER } }],
  ['one member', object({ a: INTEGER })],
  ['other keys', { type: 'object', additionalProperties: INTEGER }],
  ['limits of members', object({ a: INTEGER, b: INTEGER }, { minProperties: 1 })],
  ['items of a fixed number', { type: 'array', items: INTEGER, minItems: 2, maxItems: 2 }],
  ['another type', { type: 'array', items: object({ a: INTEGER, b: INTEGER }) }],
  ['choices', { anyOf: [object({ a: INTEGER, b: INTEGER })] }],
  ['a reference to the whole', object({ a: INTEGER, b: { anyOf: [{ type: 'null' }, { $ref: '#' }] } })],
  ['a reference to a property', object({ a: INTEGER, b: { $ref: '#/properties/a' } })],
])('a schema with %s has no plan', (_, schema) => {
  expect(drawn(schema)).toBeUndefined()
})

test('the paths are the texts from the first bracket to the end of each branch', () => {
  const plan = planMembers(object({ a: object({ b: INTEGER, c: INTEGER }), d: { const: 1 } }), {
    ...{ branches: 32, depth: 16 },
  })
  const text = (value: string) => ({ type: 'const_string', value })
  const integer = { type: 'json_schema', json_schema: expect.objectContaining(INTEGER) }
  const sequence = (...elements: unknown[]) => ({ type: 'sequence', elements })
  const or = (...elements: unknown[]) => ({ type: 'or', elements })
  expect(plan && pathsOf(plan)).toEqual(
    sequence(
      text('{"'),
      or(
        sequence(
          text('a": {"'),
          or(sequence(text('b": '), integer, text(',')), sequence(text('c": '), integer, text('}'))),
        ),
        sequence(text('d": '), { type: 'json_schema', json_schema: { const: 1 } }, text('}')),
      ),
    ),
  )
})
