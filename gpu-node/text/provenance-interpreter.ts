import type { Environment } from '@huggingface/jinja'
import { JinjaInterpreter, knownAs } from './jinja-interpreter.ts'
import type { Call, Filter, For, Node, Value } from './jinja-types.ts'
import { merged, type Piece, sliced, textOf } from './piece.ts'
import { pythonText } from './python-text.ts'
import { requireBounded } from './value-limits.ts'

interface StringValue extends Value {
  readonly value: string
}

const STRIPS = ['strip', 'lstrip', 'rstrip'] as const
/** What `str.strip` of Python removes. */
const PYTHON_SPACES =
  '\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a' +
  '\u2028\u2029\u202f\u205f\u3000'

interface Binary extends Node {
  readonly operator: { readonly value: string }
  readonly left: Node
  readonly right: Node
}
interface FilterStatement extends Node {
  readonly filter: Filter['filter']
  readonly body: readonly Node[]
}

/**
 * Keeps beside each string the pieces that it consists of. The strings themselves stay plain, so that everything in a
 * template (comparisons, slices, `split`, `length`) works as ever. Literals are the template's; blocks, loops, macros,
 * concatenation and trimming keep the pieces of their operands, and so does an operation without arguments on text
 * that is wholly the template's. What other operations return is nobody's: text that is not taken for the template's.
 */
export class ProvenanceInterpreter extends JinjaInterpreter {
  readonly #pieces = new WeakMap<Value, readonly Piece[]>()
  /** The innermost loop that runs: the blocks that it repeats, and what they gave so far. */
  #loop: { readonly blocks: readonly (readonly Node[])[]; readonly pieces: Piece[] } | undefined

  /** Declares a string the template's own. */
  trust(value: Value): void {
    if (typeof value.value === 'string') this.#pieces.set(value, [{ text: value.value, ofTemplate: true }])
  }

  piecesOf(value: Value): readonly Piece[] {
    return this.#pieces.get(value) ?? [{ text: pythonText(value), ofTemplate: false }]
  }

  override evaluate(node: Node | undefined, environment: Environment): Value {
    return requireBounded(this.#evaluate(node, environment))
  }

  #evaluate(node: Node | undefined, environment: Environment): Value {
    switch (node?.type) {
      case 'StringLiteral': {
        const literal = super.evaluate(node, environment)
        this.trust(literal)
        return literal
      }
      case 'BinaryExpression':
        return this.#binary(node as Binary, environment)
      case 'FilterExpression':
        return this.#filter(node as Filter, environment)
      case 'FilterStatement':
        return this.#filterStatement(node as FilterStatement, environment)
      case 'CallExpression':
        return this.#call(node as Call, environment)
      case 'For':
        return this.#for(node as For, environment)
      default:
        return super.evaluate(node, environment)
    }
  }

  override evaluateBlock(statements: readonly Node[], environment: Environment): Value {
    const loop = this.#loop
    const pieces: Piece[] = []
    for (const statement of statements) {
      const value = this.evaluate(statement, environment)
      if (value.type === 'NullValue' || value.type === 'UndefinedValue') continue
      for (const piece of this.piecesOf(value)) pieces.push(piece)
    }
    if (loop?.blocks.includes(statements)) for (const piece of pieces) loop.pieces.push(piece)
    return this.#string(pieces, environment)
  }

  #string(pieces: readonly Piece[], environment: Environment): Value {
    const literal = { type: 'StringLiteral', value: textOf(pieces) }
    return this.#keep(super.evaluate(literal, environment), pieces)
  }

  #binary(node: Binary, environment: Environment): Value {
    const operator = node.operator.value
    if (operator !== '+' && operator !== '~') return super.evaluate(node, environment)
    const left = this.evaluate(node.left, environment)
    const right = this.evaluate(node.right, environment)
    if (operator === '~') return this.#string([...this.piecesOf(left), ...this.piecesOf(right)], environment)
    const known = { type: node.type, operator: node.operator, left: knownAs(left), right: knownAs(right) }
    const result = super.evaluate(known, environment)
    if (!isString(result)) return result
    return this.#keep(result, [...this.#operand(left), ...this.#operand(right)])
  }

  /** Unlike a block, `+` writes the plain JavaScript value of a number. */
  #operand(value: Value): readonly Piece[] {
    return this.#pieces.get(value) ?? [{ text: String(value.value), ofTemplate: false }]
  }

  #filter(node: Filter, environment: Environment): Value {
    const { type, filter } = node
    if (filter.type !== 'Identifier') return super.evaluate(node, environment)
    const operand = this.evaluate(node.operand, environment)
    if (filter.value === 'trim' && isString(operand))
      return this.#strip(operand, 'strip', undefined, environment)
    const result = super.evaluate({ type, filter, operand: knownAs(operand) } as Filter, environment)
    return this.#changed(operand, result)
  }

  #filterStatement({ filter, body }: FilterStatement, environment: Environment): Value {
    const operand = knownAs(this.evaluateBlock(body, environment))
    return this.#filter({ type: 'FilterExpression', operand, filter }, environment)
  }

  #call(node: Call, environment: Environment): Value {
    const { type, args, callee } = node
    if (!callee.object) return super.evaluate(node, environment)
    const strip = STRIPS.find((operation) => !callee.computed && operation === callee.property?.value)
    if (args.length > (strip ? 1 : 0)) return super.evaluate(node, environment)
    const object = this.evaluate(callee.object, environment)
    if (strip && isString(object)) {
      const characters = args[0] && this.evaluate(args[0], environment)
      return this.#strip(object, strip, characters, environment)
    }
    const known = { ...callee, object: knownAs(object) }
    const result = super.evaluate({ type, args, callee: known } as Call, environment)
    return this.#changed(object, result)
  }

  /** As in Python; the library knows no `characters`, and its white space is JavaScript's. */
  #strip(
    object: StringValue,
    operation: (typeof STRIPS)[number],
    characters: Value | undefined,
    environment: Environment,
  ): Value {
    const stripped = new Set(characters && isString(characters) ? characters.value : PYTHON_SPACES)
    const text = object.value
    let start = 0
    let end = text.length
    while (operation !== 'rstrip' && start < end) {
      const first = String.fromCodePoint(text.codePointAt(start) ?? 0)
      if (!stripped.has(first)) break
      start += first.length
    }
    while (operation !== 'lstrip' && start < end) {
      const [last = ''] = text.slice(Math.max(start, end - 2), end).match(/.$/su) ?? []
      if (!stripped.has(last)) break
      end -= last.length
    }
    return this.#string(sliced(this.piecesOf(object), start, end), environment)
  }

  /** The result of an operation without arguments. */
  #changed(operand: Value, result: Value): Value {
    if (result === operand || !isString(operand) || !isString(result)) return result
    if (this.piecesOf(operand).every(({ ofTemplate }) => ofTemplate)) this.trust(result)
    return result
  }

  #for(node: For, environment: Environment): Value {
    const outer = this.#loop
    const loop = { blocks: [node.body, node.defaultBlock], pieces: [] }
    this.#loop = loop
    try {
      return this.#keep(super.evaluate(node, environment), loop.pieces)
    } finally {
      this.#loop = outer
    }
  }

  #keep(result: Value, pieces: readonly Piece[]): Value {
    if (typeof result.value !== 'string') return result
    const length = pieces.reduce((sum, { text }) => sum + text.length, 0)
    if (length === result.value.length) this.#pieces.set(result, merged(pieces))
    return result
  }
}

function isString(value: Value): value is StringValue {
  return typeof value.value === 'string'
}
