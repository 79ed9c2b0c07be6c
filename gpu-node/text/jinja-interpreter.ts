import { type Environment, Interpreter } from '@huggingface/jinja'
import { inOrder } from './jinja-order.ts'
import type {
  Binary,
  Call,
  Filter,
  For,
  Known,
  Literal,
  Mapping,
  Member,
  Node,
  Test,
  Value,
} from './jinja-types.ts'
import { withNumberKeys } from './number-keys.ts'
import { pythonText } from './python-text.ts'

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
 * undefined. Templates of models that call tools rely on it for parts that a tool's schema leaves out. Keys of a mapping may be
 * numbers, as in the thinking budgets of Seed-OSS; its methods come before members of their name, as the `items` of a
 * schema is one; tuples are unpacked by a loop; `string` writes values as Python does; and `min` and `max` are there.
 */
export class JinjaInterpreter extends OpenInterpreter {
  readonly #withNumberKeys = new WeakSet<Value>()

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
      case 'ObjectLiteral':
        return this.#mapping(node as Literal, environment)
      case 'BinaryExpression':
        return this.#binary(node as Binary, environment)
      case 'CallExpression':
        return this.#call(node as Call, environment)
      default:
        return super.evaluate(node, environment)
    }
  }

  #for(node: For, environment: Environment): Value {
    const { iterable, loopvar } = node
    const values = this.evaluate(iterable.lhs ?? iterable, environment)
    const known = isUndefined(values)
      ? NO_LIST
      : loopvar.type === 'TupleLiteral'
        ? rows(values)
        : knownAs(values)
    // With a condition, that is what is left of it.
    return super.evaluate(
      { ...node, iterable: iterable.lhs ? { ...iterable, lhs: known } : known } as For,
      environment,
    )
  }

  #call(node: Call, environment: Environment): Value {
    const { callee } = node
    if (!callee.object || callee.computed) return super.evaluate(node, environment)
    const object = this.evaluate(callee.object, environment)
    const method =
      object.type === 'ObjectValue' && (object as Mapping).builtins.get(String(callee.property?.value))
    const known = method ? knownAs(method) : { ...callee, object: knownAs(object) }
    return super.evaluate({ ...node, callee: known } as Call, environment)
  }

  #filter(node: Filter, environment: Environment): Value {
    const { filter } = node
    const operand = this.evaluate(node.operand, environment)
    if (filter.value === 'items' && this.#withNumberKeys.has(operand)) return (operand as Mapping).items()
    if (filter.value === 'string' && operand.type !== 'StringValue')
      return super.evaluate({ type: 'StringLiteral', value: pythonText(operand) } as Node, environment)
    if ((filter.value === 'min' || filter.value === 'max') && Array.isArray(operand.value)) {
      const [first, ...others] = operand.value.toSorted(inOrder)
      return (
        (filter.value === 'min' ? first : (others.at(-1) ?? first)) ?? environment.lookupVariable(NO_VARIABLE)
      )
    }
    const instead = isUndefined(operand) ? UNDEFINED_AS.get(filter.value) : undefined
    const known = { ...node, operand: instead ?? knownAs(operand) }
    return super.evaluate(known, environment)
  }

  #member(node: Member, environment: Environment): Value {
    if (!node.computed || node.property.type === 'SliceExpression') return super.evaluate(node, environment)
    const object = this.evaluate(node.object, environment)
    const property = this.#keyOf(object, this.evaluate(node.property, environment), environment)
    if (object.type === 'ObjectValue' && property.type !== 'StringValue')
      return environment.lookupVariable(NO_VARIABLE)
    const known = { ...node, object: knownAs(object), property: knownAs(property) }
    return super.evaluate(known, environment)
  }

  #mapping(node: Literal, environment: Environment): Value {
    const text = (value: string) => super.evaluate({ type: 'StringLiteral', value } as Node, environment)
    const list = (values: readonly Value[]) =>
      super.evaluate({ type: 'ArrayLiteral', value: values.map(knownAs) } as Node, environment)
    const keys = new Map<string, Value>()
    const members = [...node.value].map(([name, member]): [Node, Node] => {
      const key = this.evaluate(name, environment)
      if (!isNumber(key)) return [knownAs(key), member]
      keys.set(String(key.value), key)
      return [knownAs(text(String(key.value))), member]
    })
    const mapping = super.evaluate({ ...node, value: new Map(members) } as Node, environment)
    if (keys.size === 0) return mapping
    withNumberKeys(mapping as Mapping, keys, { text, list })
    this.#withNumberKeys.add(mapping)
    return mapping
  }

  /** `in` */
  #binary(node: Binary, environment: Environment): Value {
    if (!node.operator.value.endsWith('in')) return super.evaluate(node, environment)
    const right = this.evaluate(node.right, environment)
    const left = this.#keyOf(right, this.evaluate(node.left, environment), environment)
    return super.evaluate({ ...node, left: knownAs(left), right: knownAs(right) } as Node, environment)
  }

  /** What a key is called in a mapping. */
  #keyOf(mapping: Value, key: Value, environment: Environment): Value {
    if (!isNumber(key) || !this.#withNumberKeys.has(mapping)) return key
    return super.evaluate({ type: 'StringLiteral', value: String(key.value) } as Node, environment)
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

/** A list whose tuples are lists. */
function rows(values: Value): Node {
  if (!Array.isArray(values.value)) return knownAs(values)
  const lists = values.value.map((each: Value) =>
    each.type === 'TupleValue'
      ? { type: 'ArrayLiteral', value: (each.value as readonly Value[]).map(knownAs) }
      : knownAs(each),
  )
  return { type: 'ArrayLiteral', value: lists } as Node
}

function isNumber({ value }: Value): boolean {
  return typeof value === 'number'
}

function isUndefined({ type }: Value): boolean {
  return type === 'UndefinedValue'
}
