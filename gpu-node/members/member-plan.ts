import { isObject } from '../../shared/protocol/answer-schema.ts'
import { engineSchema } from '../grammar/engine-schema.ts'
import type { Tag } from '../grammar/tag-grammar.ts'

/** A branch of an answer in JSON (docs/adr/0078). */
export type PlannedBranch = ObjectBranch | MemberBranch

/** An object whose members are branches of their own: `open`, the children with {@link BETWEEN} between them, `close`. */
export interface ObjectBranch {
  readonly open: string
  readonly children: readonly PlannedBranch[]
  readonly close: string
}

/** One member of an object, or several of them in turn. */
export interface MemberBranch {
  /** How it begins: what is known before its first value. */
  readonly key: string
  /** All of its text, to the comma or the bracket behind the last value. */
  readonly tag: Tag
}

export const BETWEEN = ' "'
const NEXT = `,${BETWEEN}`

export interface PlanLimits {
  /** Most branches, the root included. */
  readonly branches: number
  /** Most levels; the root is the first one. */
  readonly depth: number
}

type Schema = Readonly<Record<string, unknown>>
type Member = readonly [key: string, schema: unknown]

/** Those of an object, in its order: optional ones only behind the required ones. */
interface ObjectMembers {
  readonly required: readonly Member[]
  readonly optional: readonly Member[]
}

/**
 * How the members of the schema's object are divided among branches: each its own one where the limits allow that, also
 * those of objects in it, the outer ones first. undefined for a schema with fewer than two such members, or one with
 * references that a part of it would not have.
 */
export function planMembers(schema: Schema, limits: PlanLimits): ObjectBranch | undefined {
  return refersElsewhere(schema) ? undefined : new Planner(schema, limits).plan(schema)
}

/** What the text of each path from the root's beginning to the end of a branch with values matches. */
export function pathsOf(branch: PlannedBranch): Tag {
  if ('tag' in branch) return branch.tag
  const children: Tag = { type: 'or', elements: branch.children.map(pathsOf) }
  return { type: 'sequence', elements: [text(branch.open), children] }
}

/** While it is planned: members of one object, in groups that are a branch each. */
interface Draft {
  readonly open: string
  readonly close: string
  readonly groups: readonly (readonly Member[])[]
  /** Members that may follow the last group, in its branch. */
  readonly optional: readonly Member[]
  readonly depth: number
  /** Groups of one member whose value is an object with branches. */
  readonly inner: Map<number, Draft>
}

class Planner {
  readonly #definitions: Schema
  readonly #limits: PlanLimits

  constructor({ $defs, definitions }: Schema, limits: PlanLimits) {
    this.#definitions = {
      ...($defs !== undefined && { $defs }),
      ...(definitions !== undefined && { definitions }),
    }
    this.#limits = limits
  }

  plan(schema: Schema): ObjectBranch | undefined {
    const { branches } = this.#limits
    const members = this.#divisible(schema, 1)
    if (!members || branches < 3) return undefined
    const root = draft('{"', members, '', 1, branches - 1)
    let left = branches - 1 - root.groups.length
    const drafts = [root]
    for (const at of drafts) {
      for (const [index, group] of at.groups.entries()) {
        const [member] = group
        const isAlone = group.length === 1 && optionalOf(at, index).length === 0
        const inner = isAlone && member ? this.#inner(member, at, index) : undefined
        if (!inner || inner.groups.length > left) continue
        left -= inner.groups.length
        at.inner.set(index, inner)
        drafts.push(inner)
      }
    }
    return root.groups.length > 1 || root.inner.size > 0 ? this.#branch(root) : undefined
  }

  #inner([key, schema]: Member, at: Draft, index: number): Draft | undefined {
    const depth = at.depth + 1
    const members = this.#divisible(schema, depth)
    return members && draft(`${lead(key)} {"`, members, end(at, index), depth, members.required.length)
  }

  #branch(at: Draft): ObjectBranch {
    const { open, close, groups } = at
    const children = groups.map((group, index) => {
      const inner = at.inner.get(index)
      return inner ? this.#branch(inner) : this.#members(group, optionalOf(at, index), end(at, index))
    })
    return { open, children, close }
  }

  #members(group: readonly Member[], optional: readonly Member[], close: string): MemberBranch {
    const [[first] = ['']] = group
    const elements = group.flatMap((member, index) => this.#member(index > 0 ? NEXT : '', member))
    const more = optional.map((member): Tag => {
      return { type: 'optional', content: { type: 'sequence', elements: this.#member(NEXT, member) } }
    })
    return { key: lead(first), tag: { type: 'sequence', elements: [...elements, ...more, text(close)] } }
  }

  #member(before: string, [key, schema]: Member): Tag[] {
    const json_schema = engineSchema(this.#alone(schema))
    return [text(`${before}${lead(key)} `), { type: 'json_schema', json_schema }]
  }

  /** The members of an object at this level, if more than one value in it can be decoded at a time. */
  #divisible(schema: unknown, depth: number): ObjectMembers | undefined {
    const members = membersOf(this.#resolved(schema))
    const [only, ...others] = members?.required ?? []
    if (!members || !only || depth >= this.#limits.depth) return undefined
    if (others.length > 0) return members
    return members.optional.length === 0 && this.#divisible(only[1], depth + 1) ? members : undefined
  }

  #resolved(schema: unknown): unknown {
    if (!isObject(schema) || typeof schema.$ref !== 'string') return schema
    const [, container = '', name = ''] = /^#\/(\$defs|definitions)\/([^/~%]+)$/.exec(schema.$ref) ?? []
    const schemas = this.#definitions[container]
    return isObject(schemas) && Object.hasOwn(schemas, name) ? schemas[name] : undefined
  }

  /** The part of a schema as a schema of its own. */
  #alone(schema: unknown): unknown {
    const refers = isObject(schema) && JSON.stringify(schema).includes('"$ref"')
    return refers ? { ...schema, ...this.#definitions } : schema
  }
}

/** `most`: groups. */
function draft(
  open: string,
  { required, optional }: ObjectMembers,
  close: string,
  depth: number,
  most: number,
): Draft {
  const count = Math.min(required.length, most)
  const groups = Array.from({ length: count }, (_, index) =>
    required.slice(
      Math.floor((index * required.length) / count),
      Math.floor(((index + 1) * required.length) / count),
    ),
  )
  return { open, close, groups, optional, depth, inner: new Map() }
}

function optionalOf({ groups, optional }: Draft, index: number): readonly Member[] {
  return index === groups.length - 1 ? optional : []
}

/** What follows the last value of a group: the same as in an answer that is decoded serially, so that a model knows it. */
function end({ groups }: Draft, index: number): string {
  return index === groups.length - 1 ? '}' : ','
}

/** `name":`, without the space behind it, which is part of the next token in most vocabularies. */
function lead(key: string): string {
  return `${JSON.stringify(key).slice(1)}:`
}

function text(value: string): Tag {
  return { type: 'const_string', value }
}

/** Of an object that has no other properties, in their order. undefined where an optional one precedes a required one. */
function membersOf(schema: unknown): ObjectMembers | undefined {
  if (!isObject(schema) || schema.type !== 'object' || !isObject(schema.properties)) return undefined
  const { properties, required = [], additionalProperties } = schema
  const isOpen = ['patternProperties', 'propertyNames', 'minProperties', 'maxProperties'].some(
    (keyword) => keyword in schema,
  )
  const others = isObject(additionalProperties) && Object.keys(additionalProperties).length > 0
  if (isOpen || others || !Array.isArray(required)) return undefined
  const members = Object.entries(properties)
  const isRequired = ([key]: Member) => required.includes(key)
  const count = members.findLastIndex(isRequired) + 1
  const first = members.slice(0, count)
  return first.every(isRequired) ? { required: first, optional: members.slice(count) } : undefined
}

/** Whether it has a reference to anything but definitions at its root, which each part of it gets. */
function refersElsewhere(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return false
  return Object.entries(schema).some(([keyword, value]) => {
    if (keyword !== '$ref' || typeof value !== 'string') return refersElsewhere(value)
    return !value.startsWith('#/$defs/') && !value.startsWith('#/definitions/')
  })
}
