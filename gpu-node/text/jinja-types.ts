// What apar reads of the library's syntax tree and values, which it declares private or not at all.

/** A node of the library's syntax tree. */
export interface Node {
  readonly type: string
}

/** A value of the library's interpreter. */
export interface Value {
  readonly type: string
  readonly value: unknown
}

/** A node that stands for a value which is known already. */
export interface Known extends Node {
  readonly known: Value
}

export interface For extends Node {
  readonly iterable: Node & { readonly lhs?: Node }
  readonly loopvar: Node
  readonly body: readonly Node[]
  readonly defaultBlock: readonly Node[]
}

export interface Filter extends Node {
  readonly operand: Node
  readonly filter: Node & { readonly value?: unknown }
}

export interface Member extends Node {
  readonly object: Node
  readonly property: Node & { readonly value?: unknown }
  readonly computed: boolean
}

export interface Call extends Node {
  readonly args: readonly Node[]
  readonly callee: Node & Partial<Member>
}

export interface Literal extends Node {
  readonly value: ReadonlyMap<Node, Node>
}

export interface Binary extends Node {
  readonly operator: { readonly value: string }
  readonly left: Node
  readonly right: Node
}

export interface Test extends Node {
  readonly operand: Node
  readonly test: { readonly value: string }
  readonly negate: boolean
}

export type Arguments = readonly Value[]

/** A mapping of the library's interpreter, whose keys are texts. */
export interface Mapping extends Value {
  readonly value: ReadonlyMap<string, Value>
  readonly builtins: ReadonlyMap<string, Value & { value: (args: Arguments, ...more: unknown[]) => Value }>
  items: () => Value
  keys: () => Value
}
