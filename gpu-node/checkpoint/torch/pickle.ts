// Format: CPython, Lib/pickletools.py. These are the opcodes that a state dict needs in protocols 2 to 5: those of
// torch's own restricted reader (torch/_weights_only_unpickler.py) and the shorter forms of protocol 4.
//
// Not npm's pickleparser: it calls what lies on its stack (REDUCE, NEWOBJ, a `__setstate__` taken from the file), and
// has no bound on time or memory. Here a call is a value that says what would have been called.

import { unsupported } from '../refusals.ts'
import { PickleBytes } from './pickle-bytes.ts'

export interface Tuple {
  readonly kind: 'tuple'
  readonly items: readonly PickleValue[]
}
/** A dict, or an OrderedDict. */
export interface Dict {
  readonly kind: 'dict'
  readonly entries: Map<PickleValue, PickleValue>
}
export interface List {
  readonly kind: 'list'
  readonly items: PickleValue[]
}
/** A class or function, `module.name`. */
export interface Global {
  readonly kind: 'global'
  readonly name: string
}
/** What the pickle asks to call, and with what. */
export interface Call {
  readonly kind: 'call'
  readonly callee: string
  readonly args: readonly PickleValue[]
}
/** An object outside the pickle, by a name that only its writer understands. */
export interface Persistent {
  readonly kind: 'persistent'
  readonly id: PickleValue
}
export type PickleValue = null | boolean | number | string | Tuple | List | Dict | Global | Call | Persistent

/** A tensor takes about 35: enough for 28,000 tensors in a file, and a bound on memory: each makes at most one value. */
const MAX_OPCODES = 1_000_000
const MAX_PROTOCOL = 5

const ORDERED_DICT = 'collections.OrderedDict'

const OPCODE = {
  MARK: 0x28,
  STOP: 0x2e,
  POP: 0x30,
  NONE: 0x4e,
  BINFLOAT: 0x47,
  BININT: 0x4a,
  BININT1: 0x4b,
  BININT2: 0x4d,
  LONG1: 0x8a,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  BINUNICODE: 0x58,
  SHORT_BINUNICODE: 0x8c,
  EMPTY_TUPLE: 0x29,
  TUPLE: 0x74,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  APPENDS: 0x65,
  EMPTY_DICT: 0x7d,
  SETITEM: 0x73,
  SETITEMS: 0x75,
  GLOBAL: 0x63,
  STACK_GLOBAL: 0x93,
  REDUCE: 0x52,
  BUILD: 0x62,
  BINPERSID: 0x51,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  MEMOIZE: 0x94,
  BINGET: 0x68,
  LONG_BINGET: 0x6a,
  PROTO: 0x80,
  FRAME: 0x95,
} as const

/** Marks the beginning of a tuple's, list's or dict's items on the stack. */
const MARK = Symbol('mark')

/**
 * Reads a pickle as data. Nothing is called, and only globals in `allowed` may be named.
 * @throws StartupError that begins with `where`.
 */
export function readPickle(where: string, data: Buffer, allowed: ReadonlySet<string>): PickleValue {
  const bytes = new PickleBytes(where, data)
  const stack: (PickleValue | typeof MARK)[] = []
  const memo = new Map<number, PickleValue>()
  const broken = (reason: string) => bytes.broken(reason)

  const pop = (): PickleValue => {
    const value = stack.pop()
    if (value === undefined || value === MARK) throw broken(`the pickle is damaged at byte ${bytes.at}`)
    return value
  }
  const top = (): PickleValue => {
    const value = pop()
    stack.push(value)
    return value
  }
  const popMany = (count: number) => Array.from({ length: count }, pop).reverse()
  const popToMark = (): PickleValue[] => {
    const items: PickleValue[] = []
    while (stack.at(-1) !== MARK) items.push(pop())
    stack.pop()
    return items.reverse()
  }
  const tuple = (items: PickleValue[]) => stack.push({ kind: 'tuple', items })

  const global = (module: string, member: string) => {
    const name = `${module}.${member}`
    if (!allowed.has(name)) {
      throw unsupported(
        `${where}: the pickle asks for ${JSON.stringify(name)}, which a file of weights has no need of`,
      )
    }
    stack.push({ kind: 'global', name })
  }
  const nameOnStack = (): string => {
    const value = pop()
    if (typeof value !== 'string') throw broken('the pickle names a class by something that is no text')
    return value
  }

  const setItems = (items: PickleValue[]) => {
    const dict = top()
    if (!isKind(dict, 'dict') || items.length % 2 !== 0) throw broken('the pickle sets items of no dict')
    for (let index = 0; index < items.length; index += 2) {
      const key = items[index] ?? null
      if (dict.entries.has(key)) throw broken(`the pickle has the key ${describe(key)} twice`)
      dict.entries.set(key, items[index + 1] ?? null)
    }
  }
  const append = (items: PickleValue[]) => {
    const list = top()
    if (!isKind(list, 'list')) throw broken('the pickle appends to no list')
    for (const item of items) list.items.push(item)
  }
  const reduce = () => {
    const args = pop()
    const callee = pop()
    if (!isKind(args, 'tuple') || !isKind(callee, 'global'))
      throw broken('the pickle calls what is no function')
    if (callee.name !== ORDERED_DICT) stack.push({ kind: 'call', callee: callee.name, args: args.items })
    else if (args.items.length === 0) stack.push({ kind: 'dict', entries: new Map() })
    else throw broken(`the pickle calls ${ORDERED_DICT} with arguments`)
  }
  const build = () => {
    pop()
    // torch keeps versions of modules in an attribute of the dict, `_metadata`; weights are never in attributes.
    if (!isKind(top(), 'dict')) throw broken('the pickle sets attributes of something that is no dict')
  }
  const get = (index: number) => {
    const value = memo.get(index)
    if (value === undefined) throw broken(`the pickle has no memo ${index}`)
    stack.push(value)
  }

  const actions: Record<number, () => unknown> = {
    [OPCODE.PROTO]: () => {
      const protocol = bytes.u8()
      if (protocol > MAX_PROTOCOL) throw broken(`pickle protocol ${protocol} is not read`)
    },
    [OPCODE.FRAME]: () => bytes.skip(8),
    [OPCODE.MARK]: () => stack.push(MARK),
    [OPCODE.POP]: pop,
    [OPCODE.NONE]: () => stack.push(null),
    [OPCODE.NEWTRUE]: () => stack.push(true),
    [OPCODE.NEWFALSE]: () => stack.push(false),
    [OPCODE.BININT]: () => stack.push(bytes.i32()),
    [OPCODE.BININT1]: () => stack.push(bytes.u8()),
    [OPCODE.BININT2]: () => stack.push(bytes.u16()),
    [OPCODE.LONG1]: () => stack.push(bytes.integer()),
    [OPCODE.BINFLOAT]: () => stack.push(bytes.f64()),
    [OPCODE.BINUNICODE]: () => stack.push(bytes.text(bytes.u32())),
    [OPCODE.SHORT_BINUNICODE]: () => stack.push(bytes.text(bytes.u8())),
    [OPCODE.EMPTY_TUPLE]: () => tuple([]),
    [OPCODE.TUPLE]: () => tuple(popToMark()),
    [OPCODE.TUPLE1]: () => tuple(popMany(1)),
    [OPCODE.TUPLE2]: () => tuple(popMany(2)),
    [OPCODE.TUPLE3]: () => tuple(popMany(3)),
    [OPCODE.EMPTY_LIST]: () => stack.push({ kind: 'list', items: [] }),
    [OPCODE.APPEND]: () => append(popMany(1)),
    [OPCODE.APPENDS]: () => append(popToMark()),
    [OPCODE.EMPTY_DICT]: () => stack.push({ kind: 'dict', entries: new Map() }),
    [OPCODE.SETITEM]: () => setItems(popMany(2)),
    [OPCODE.SETITEMS]: () => setItems(popToMark()),
    [OPCODE.GLOBAL]: () => global(bytes.line(), bytes.line()),
    [OPCODE.STACK_GLOBAL]: () => {
      const member = nameOnStack()
      global(nameOnStack(), member)
    },
    [OPCODE.REDUCE]: reduce,
    [OPCODE.BUILD]: build,
    [OPCODE.BINPERSID]: () => stack.push({ kind: 'persistent', id: pop() }),
    [OPCODE.BINPUT]: () => memo.set(bytes.u8(), top()),
    [OPCODE.LONG_BINPUT]: () => memo.set(bytes.u32(), top()),
    [OPCODE.MEMOIZE]: () => memo.set(memo.size, top()),
    [OPCODE.BINGET]: () => get(bytes.u8()),
    [OPCODE.LONG_BINGET]: () => get(bytes.u32()),
  }

  for (let count = 0; count < MAX_OPCODES; count++) {
    const opcode = bytes.u8()
    if (opcode === OPCODE.STOP) return pop()
    const action = actions[opcode]
    if (!action) {
      const name = `0x${opcode.toString(16).padStart(2, '0')}`
      throw broken(
        `the pickle has opcode ${name} at byte ${bytes.at - 1}, which a file of weights has no need of`,
      )
    }
    action()
  }
  throw broken(`the pickle has more than ${MAX_OPCODES} opcodes`)
}

export function isKind<K extends 'tuple' | 'list' | 'dict' | 'global' | 'call' | 'persistent'>(
  value: PickleValue | undefined,
  kind: K,
): value is Extract<PickleValue, { kind: K }> {
  return typeof value === 'object' && value !== null && value.kind === kind
}

/** For messages. */
export function describe(value: PickleValue | undefined): string {
  if (value === undefined) return 'nothing'
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (value.kind === 'call') return `a ${value.callee}`
  return value.kind === 'global' ? value.name : `a ${value.kind}`
}
