import { Environment, parse, Template, tokenize } from '@huggingface/jinja'
import type { TemplateMessage } from '../tools/tool-prompt.ts'
import type { Node, Value } from './jinja-types.ts'
import { merged, type Piece } from './piece.ts'
import { ProvenanceInterpreter } from './provenance-interpreter.ts'
import { boundedRange } from './value-limits.ts'

/**
 * A Jinja template that says of each character of its result whether the template wrote it. Its text is that of an
 * ordinary interpreter.
 */
export class ProvenanceTemplate {
  /** All text in the template's source that it may write: between tags, and in string literals. */
  readonly literals: readonly string[]
  readonly #program: Node

  /** @throws Error when the source is not a template. */
  constructor(source: string) {
    // The same options as transformers.
    this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }))
    this.literals = [...stringLiterals(this.#program)]
  }

  /**
   * `own`: variables with text of the checkpoint, which counts as the template's; that of `variables` does not, and they
   * replace none of the others.
   * @throws Error of the template.
   */
  render(
    own: Readonly<Record<string, string>>,
    messages: readonly TemplateMessage[],
    { generationPrompt = true, variables = {} }: RenderOptions = {},
  ): Piece[] {
    const environment = new Environment()
    for (const [name, value] of Object.entries(variables))
      if (!isReserved(name, own)) environment.set(name, value)
    for (const [name, value] of Object.entries(globals))
      if (!Object.hasOwn(variables, name) || isReserved(name, own)) environment.set(name, value)
    for (const [name, call] of Object.entries(functions)) {
      environment.set(name, () => null)
      const placeholder: { value: unknown } = environment.lookupVariable(name)
      placeholder.value = call
    }
    for (const [name, value] of Object.entries(own)) environment.set(name, value)
    environment.set('messages', messages)
    environment.set('add_generation_prompt', generationPrompt)
    const interpreter = new ProvenanceInterpreter(environment)
    for (const name of Object.keys(own)) interpreter.trust(environment.lookupVariable(name))
    // A role is one of a short list: no text of a user.
    for (const message of environment.lookupVariable('messages').value as Value[]) {
      const role = (message.value as Map<string, Value>).get('role')
      if (role) interpreter.trust(role)
    }
    return merged(interpreter.piecesOf(interpreter.evaluate(this.#program, environment)))
  }
}

export interface RenderOptions {
  readonly generationPrompt?: boolean
  readonly variables?: Readonly<Record<string, unknown>>
}

/** Names that say something else to every template. `tools` and `documents` may be a request's. */
function isReserved(name: string, own: object): boolean {
  if (name === 'tools' || name === 'documents') return false
  const reserved = ['messages', 'add_generation_prompt', ...Object.keys(globals), ...Object.keys(functions)]
  return reserved.includes(name) || Object.hasOwn(own, name)
}

const globals = {
  ...{ true: true, True: true, false: false, False: false, none: null, None: null },
  // As transformers gives them to a template in a chat without any.
  ...{ tools: null, documents: null },
  raise_exception: (reason: string) => {
    throw new Error(reason)
  },
}

/** The library's own functions, which it gives only to templates. */
const functions: Record<string, unknown> = {}
new Template('{{ keep(range, strftime_now) }}').render({
  keep: (range: Parameters<typeof boundedRange>[0], strftime: unknown) => {
    functions.range = boundedRange(range)
    functions.strftime_now = strftime
  },
})

function* stringLiterals(node: unknown): Generator<string> {
  if (typeof node !== 'object' || node === null) return
  if ('type' in node && node.type === 'StringLiteral' && 'value' in node) yield String(node.value)
  const children = Array.isArray(node) ? node : node instanceof Map ? [...node].flat() : Object.values(node)
  for (const child of children) yield* stringLiterals(child)
}
