import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AparError } from '../../shared/errors.ts'
import type { OutputFormat } from '../../shared/protocol/output-format.ts'
import { GRAMMAR_FOLDER } from '../engine/engine-files.ts'
import type { EngineGrammar } from '../engine/engine-request.ts'
import { type ObjectBranch, pathsOf } from '../members/member-plan.ts'
import type { AnswerStart } from '../reasoning/reasoning-start.ts'
import { requireServed } from '../tools/served-schema.ts'
import type { ToolFormat } from '../tools/tool-format.ts'
import { type ToolRequest, toolGrammar } from '../tools/tool-grammar.ts'
import { CompilerProcess, type Vocabulary } from './compiler-process.ts'
import { patternsOf } from './engine-schema.ts'
import { type GrammarSource, grammarSource } from './grammar-source.ts'
import { schemasIn } from './tag-grammar.ts'

/** Of compiled grammars that are kept; in memory they take about half as much again. */
const MAX_KEPT_BYTES = 256 * 1024 ** 2
const MAX_KEPT = 1024
/** For how long a grammar that was refused is refused again without another try: a busy machine may take too long. */
const REFUSED_MS = 60_000

function aboutTools({ message, code }: AparError): AparError {
  return new AparError(code, message.replace(/^output_format: /, 'tools: '), { param: 'tools' })
}

export type LoadGrammar = (folder: string, compiled: Uint8Array) => Promise<EngineGrammar>

interface Kept {
  readonly grammar: Promise<EngineGrammar>
  /** When it is compiled. */
  bytes: number
  /** As performance.now(). */
  until: number
}

/** The grammars of a node's requests, each compiled once as long as it is used. */
export class Grammars {
  readonly #compiler: CompilerProcess
  readonly #load: LoadGrammar
  /** The least recently used first. */
  readonly #kept = new Map<string, Kept>()

  constructor(vocabulary: Vocabulary, load: LoadGrammar) {
    this.#compiler = new CompilerProcess(GRAMMAR_FOLDER, vocabulary)
    this.#load = load
  }

  /** Whether this installation has the library. */
  static get available(): boolean {
    return existsSync(join(GRAMMAR_FOLDER, 'complete'))
  }

  /**
   * `start`: for an answer that may think first.
   * @throws AparError `invalid_request` for one that cannot be served, `overloaded`.
   */
  get(format: OutputFormat, start?: AnswerStart): Promise<EngineGrammar> {
    return this.#of(grammarSource(format, start))
  }

  /**
   * As {@link get}, for an answer that may call tools. What the grammar engine cannot compile of their schemas is left out,
   * unless a tool is `strict`.
   */
  async ofTools(request: ToolRequest, format: ToolFormat, start?: AnswerStart): Promise<EngineGrammar> {
    requireServed(request.tools)
    try {
      return await this.#of(toolGrammar(request, format, start))
    } catch (error) {
      const isRefused = error instanceof AparError && error.code === 'invalid_request'
      if (!isRefused) throw error
      if (request.tools.some(({ strict }) => strict)) throw aboutTools(error)
    }
    return await this.#of(toolGrammar(request, format, start, true))
  }

  /** Of the paths of an answer's branches. @throws AparError as {@link get}. */
  ofMembers(plan: ObjectBranch): Promise<EngineGrammar> {
    const format = pathsOf(plan)
    const patterns = [...schemasIn(format)].flatMap((schema) => [...patternsOf(JSON.parse(schema))])
    const text = JSON.stringify({ type: 'structural_tag', format })
    return this.#of({ kind: 5, text, patterns: [...new Set(patterns)] })
  }

  #of(source: GrammarSource): Promise<EngineGrammar> {
    const key = createHash('sha256').update(`${source.kind} ${source.text}`).digest('base64')
    const found = this.#kept.get(key)
    this.#kept.delete(key)
    const kept = found && found.until > performance.now() ? found : this.#compile(source)
    this.#kept.set(key, kept)
    this.#dropOld()
    return kept.grammar
  }

  close(): void {
    this.#compiler.close()
  }

  #compile(source: GrammarSource): Kept {
    const make = async () => {
      const compiled = await this.#compiler.compile(source)
      const grammar = await this.#load(GRAMMAR_FOLDER, compiled)
      kept.bytes = compiled.length
      this.#dropOld()
      return grammar
    }
    const kept: Kept = { grammar: make(), bytes: 0, until: Number.POSITIVE_INFINITY }
    kept.grammar.catch((error) => {
      const isRefused = error instanceof AparError && error.code === 'invalid_request'
      kept.until = isRefused ? performance.now() + REFUSED_MS : 0
    })
    return kept
  }

  /** Requests that run with a grammar keep it. */
  #dropOld(): void {
    let bytes = [...this.#kept.values()].reduce((sum, kept) => sum + kept.bytes, 0)
    for (const [key, kept] of this.#kept) {
      if (this.#kept.size <= MAX_KEPT && bytes <= MAX_KEPT_BYTES) return
      this.#kept.delete(key)
      bytes -= kept.bytes
    }
  }
}
