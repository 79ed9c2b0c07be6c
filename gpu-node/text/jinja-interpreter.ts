import { type Environment, Interpreter } from '@huggingface/jinja'

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
  readonly iterable: Node
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

interface Test extends Node {
  readonly operand: Node
  readonly test: { readonly value: string }
  readonly negate: boolean
}

/** The parts of the library's Interpreter that are overridden here; it declares one of them private. */
interface OpenInterpreter {
  evaluate(node: Node | undefined, environment: Environment): Value
  evaluateBlock(statements: readonly Node[], environment: Environment): Value
}
const OpenInterpreter = Interpreter as unknown as new (environment: Environment) => OpenInterpreter

const NO_TEXT = { type: 'StringLiteral', value: '' }
const NO_LIST = { type: 'ArrayLiteral', value: [] }
const NO_MEMBERS = { type: 'ObjectLiteral', value: new Map() }
/** No template can set it. */
const NO_VARIABLE = ''
/** What a filter takes an undefined value for. */
const UNDEFINED_AS = new Map<unknown, Node>([
  ['trim', NO_TEXT],
  ['items', NO_MEMBERS],
  ['length', NO_LIST],
])

/**
 * The library's interpreter, where Jinja2 takes undefined values and the library does not: a loop over one has no rounds,
 * `trim` makes no text of it, `items` no members, its `length` is 0, it is iterable, and a member whose name is no text is
 * undefined. Templates of models that call tools rely on it for parts that a tool's schema leaves out.
 */
export class JinjaInterpreter extends OpenInterpreter {
  override evaluate(node: Node | undefined, environment: Environment): Value {
    switch (node?.type) {
      case 'Known':
        return (node as Known).known
      case 'For':
        return this.#for(node as For, environment)
      case 'FilterExpression':
        return this.#filter(node as Filter, environment)
      case 'MemberExpression':
        return this.#member(node as Member, environment)
      case 'TestExpression':
        return this.#test(node as Test, environment)
      default:
        return super.evaluate(node, environment)
    }
  }

  #for(node: For, environment: Environment): Value {
    // A loop with a condition: the library knows its parts.
    if (node.iterable.type === 'SelectExpression') return super.evaluate(node, environment)
    const iterable = this.evaluate(node.iterable, environment)
    const known = { ...node, iterable: isUndefined(iterable) ? NO_LIST : knownAs(iterable) }
    return super.evaluate(known, environment)
  }

  #filter(node: Filter, environment: Environment): Value {
    const { filter } = node
    const operand = this.evaluate(node.operand, environment)
    const instead = isUndefined(operand) ? UNDEFINED_AS.get(filter.value) : undefined
    const known = { ...node, operand: instead ?? knownAs(operand) }
    return super.evaluate(known, environment)
  }

  #member(node: Member, environment: Environment): Value {
    if (!node.computed || node.property.type === 'SliceExpression') return super.evaluate(node, environment)
    const object = this.evaluate(node.object, environment)
    const property = this.evaluate(node.property, environment)
    if (object.type === 'ObjectValue' && property.type !== 'StringValue')
      return environment.lookupVariable(NO_VARIABLE)
    const known = { ...node, object: knownAs(object), property: knownAs(property) }
    return super.evaluate(known, environment)
  }

  #test(node: Test, environment: Environment): Value {
    const operand = this.evaluate(node.operand, environment)
    const isLoopedOver = isUndefined(operand) || operand.type === 'ObjectValue'
    const known = node.test.value === 'iterable' && isLoopedOver ? NO_LIST : knownAs(operand)
    return super.evaluate({ ...node, operand: known } as Test, environment)
  }
}

export function knownAs(known: Value): Known {
  return { type: 'Known', known }
}

function isUndefined({ type }: Value): boolean {
  return type === 'UndefinedValue'
}
