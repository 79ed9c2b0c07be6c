import { literal } from './ebnf-literal.ts'
import { rulesOfTextWithout } from './text-without.ts'

/** A part of a structural tag (xgrammar), which may have schemas: `{"type": "json_schema", "json_schema": …}`. */
export interface Tag {
  readonly type: string
  readonly value?: string
  readonly elements?: readonly Tag[]
  readonly content?: Tag
  readonly json_schema?: unknown
  readonly excludes?: readonly string[]
  readonly [field: string]: unknown
}

/** A part of ours: any text that has not the one text of `excludes` in it. In a grammar with other parts, unlike `any_text`. */
export const TEXT_WITHOUT = 'text_without'

/** Parts that {@link MergedGrammar} writes. */
const WRITTEN = ['const_string', 'sequence', 'or', 'star', 'optional', 'json_schema', TEXT_WITHOUT]

/** The schemas in a tag, as JSON, each once. */
export function schemasIn(tag: Tag): Set<string> {
  if (tag.type === 'json_schema') return new Set([JSON.stringify(tag.json_schema)])
  return new Set(partsOf(tag).flatMap((part) => [...schemasIn(part)]))
}

/**
 * The tag with grammars in place of schemas, where `ebnf` has those of {@link schemasIn}: schemas of its own, xgrammar would
 * take with any white space. Parts of fixed texts and schemas become one grammar, whose rules for any string or number are
 * there once: with one grammar for each of 16 tools, compiling takes three times as long.
 */
export function withGrammars(tag: Tag, ebnf: ReadonlyMap<string, string>): Tag {
  if (isWritten(tag)) return { type: 'grammar', grammar: new MergedGrammar(ebnf).of(tag) }
  const { elements, content } = tag
  return {
    ...tag,
    ...(elements && { elements: elements.map((part) => withGrammars(part, ebnf)) }),
    ...(content && { content: withGrammars(content, ebnf) }),
  }
}

function isWritten(tag: Tag): boolean {
  return WRITTEN.includes(tag.type) && partsOf(tag).every(isWritten)
}

function partsOf({ elements = [], content }: Tag): readonly Tag[] {
  return content ? [...elements, content] : elements
}

/** Rules of any JSON, which each schema's grammar has. */
const SHARED = 'basic_'

class MergedGrammar {
  readonly #ebnf: ReadonlyMap<string, string>
  /** Name → body. */
  readonly #rules = new Map<string, string>()
  /** Schema → name of its rule. */
  readonly #roots = new Map<string, string>()
  /** Excluded text → name of the rule of texts without it. */
  readonly #texts = new Map<string, string>()

  constructor(ebnf: ReadonlyMap<string, string>) {
    this.#ebnf = ebnf
  }

  of(tag: Tag): string {
    const root = this.#expression(tag)
    return [`root ::= ${root}`, ...[...this.#rules].map(([name, body]) => `${name} ::= ${body}`)].join('\n')
  }

  #expression(tag: Tag): string {
    const parts = partsOf(tag).map((part) => this.#expression(part))
    const [first = ''] = parts
    if (tag.type === 'const_string') return literal(tag.value ?? '')
    if (tag.type === 'sequence') return `(${parts.join(' ')})`
    if (tag.type === 'or') return `(${parts.join(' | ')})`
    if (tag.type === 'star') return `(${first})*`
    if (tag.type === 'optional') return `(${first} | "")`
    if (tag.type === TEXT_WITHOUT) return this.#textWithout(tag.excludes?.[0] ?? '')
    return this.#schema(JSON.stringify(tag.json_schema))
  }

  #textWithout(excluded: string): string {
    const known = this.#texts.get(excluded)
    if (known) return known
    const prefix = `text_${this.#texts.size}_`
    for (const [name, body] of rulesOfTextWithout(excluded, prefix)) this.#rules.set(name, body)
    this.#texts.set(excluded, `${prefix}0`)
    return `${prefix}0`
  }

  #schema(schema: string): string {
    const known = this.#roots.get(schema)
    if (known) return known
    const rules = rulesOf(this.#ebnf.get(schema) ?? '')
    const prefix = `of_${this.#roots.size}_`
    const differs = rules.some(([name, body]) => {
      return name.startsWith(SHARED) && (this.#rules.get(name) ?? body) !== body
    })
    const own = rules.map(([name]) => name).filter((name) => differs || !name.startsWith(SHARED))
    const renamed = new Map(own.map((name) => [name, prefix + name]))
    for (const [name, body] of rules) this.#rules.set(renamed.get(name) ?? name, withNames(body, renamed))
    const root = renamed.get('root') ?? 'root'
    this.#roots.set(schema, root)
    return root
  }
}

/** As xgrammar prints a grammar: one rule a line. */
function rulesOf(ebnf: string): [name: string, body: string][] {
  return [...ebnf.matchAll(/^(\w+) ::= (.*)$/gm)].map(([, name = '', body = '']) => [name, body])
}

/** Names stand outside of strings and of classes of characters. */
const STRING_CLASS_OR_NAME = /"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[A-Za-z_]\w*/g

function withNames(body: string, renamed: ReadonlyMap<string, string>): string {
  return body.replace(STRING_CLASS_OR_NAME, (part) => renamed.get(part) ?? part)
}
