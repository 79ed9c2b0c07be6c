import { type ChildProcess, spawn } from 'node:child_process'
import { AparError } from '../../shared/errors.ts'
import { GRAMMAR_COMPILER } from '../engine/engine-files.ts'
import { type GrammarSource, patternCheck } from './grammar-source.ts'
import { withBoundedNumbers } from './number-rules.ts'
import { schemasIn, type Tag, withGrammars } from './tag-grammar.ts'

/** Of address space, also of its libraries and the vocabulary. */
const MAX_BYTES = 2 * 1024 ** 3
/** Larger ones would take the node seconds to load. */
const MAX_COMPILED_BYTES = 64 * 1024 ** 2
const STARTING_LIMIT_MS = 60_000
const COMPILING_LIMIT_MS = 10_000
/** The edge takes a node that neither accepts nor refuses a request within a minute for a broken one. */
const WAITING_LIMIT_MS = 20_000

/** Kinds of frames of native/tools/compile_grammar.cpp: two that compile nothing, and those of which schemas are a part. */
const TO_EBNF = -1
const CHECK = 0
const SCHEMA = 1
const TAG = 4
const JSON_EBNF = 5

/** The tokens of a model, as EngineConfig has them. */
export interface Vocabulary {
  readonly text: { readonly bytes: Uint8Array; readonly offsets: Int32Array; readonly markers: Int32Array }
  readonly eos: readonly number[]
}

/**
 * Compiles grammars one by one, in a process of its own (docs/adr/0061): one that takes too long, or too much memory,
 * ends that process, and another takes its place.
 */
export class CompilerProcess {
  readonly #folder: string
  readonly #vocabulary: Vocabulary
  readonly #limitMs: number
  #child: Child | undefined
  #last: Promise<unknown> = Promise.resolve()
  #closed = false

  /** `folder` has the grammar engine's libraries. */
  constructor(folder: string, vocabulary: Vocabulary, limitMs = COMPILING_LIMIT_MS) {
    this.#folder = folder
    this.#vocabulary = vocabulary
    this.#limitMs = limitMs
  }

  /** @throws AparError `invalid_request` for a grammar that cannot be served, `overloaded`. */
  compile(source: GrammarSource): Promise<Uint8Array> {
    const latest = performance.now() + WAITING_LIMIT_MS
    const compiled = this.#last.then(() => {
      if (performance.now() > latest) throw busy()
      return this.#compile(source)
    })
    this.#last = compiled.catch(() => {})
    return compiled
  }

  close(): void {
    this.#closed = true
    this.#child?.end()
  }

  async #compile({ kind, text, patterns }: GrammarSource): Promise<Uint8Array> {
    const latest = performance.now() + this.#limitMs
    for (const pattern of patterns) await this.#ask(CHECK, patternCheck(pattern), latest, pattern)
    if (kind === SCHEMA) return await this.#ask(JSON_EBNF, await this.#ebnfOf(text, latest), latest)
    if (kind !== TAG && kind !== JSON_EBNF) return await this.#ask(kind, text, latest)
    const tag: { type: string; format: Tag } = JSON.parse(text)
    const ebnf = new Map<string, string>()
    for (const schema of schemasIn(tag.format)) ebnf.set(schema, await this.#ebnfOf(schema, latest))
    const format = withGrammars(tag.format, ebnf)
    const source = kind === TAG ? JSON.stringify({ ...tag, format }) : String(format.grammar)
    return await this.#ask(kind, source, latest)
  }

  async #ebnfOf(schema: string, latest: number): Promise<string> {
    return withBoundedNumbers((await this.#ask(TO_EBNF, schema, latest)).toString())
  }

  /** `pattern`: that is asked about. @throws AparError `invalid_request` with the process's answer. */
  async #ask(kind: number, text: string, latest: number, pattern?: string): Promise<Buffer> {
    if (this.#closed)
      throw new AparError('overloaded', 'this gpu node is shutting down', { retryAfterSeconds: 5 })
    const child = await this.#started()
    const frame = Buffer.concat([int32s([kind]), Buffer.from(text)])
    const answer = await child.ask(frame, latest - performance.now())
    if (answer === undefined) {
      this.#child = undefined
      child.end()
      throw refused(`takes more than ${this.#limitMs / 1000} s, or too much memory, to compile`)
    }
    const named = pattern === undefined ? '' : `the pattern ${JSON.stringify(pattern.slice(0, 100))}: `
    if (answer[0] === 0) throw refused(named + answer.subarray(1).toString())
    if (answer.length > MAX_COMPILED_BYTES) throw refused('is too large when it is compiled')
    return answer.subarray(1)
  }

  async #started(): Promise<Child> {
    if (this.#child?.alive) return this.#child
    const child = new Child(this.#folder)
    this.#child = child
    const { text, eos } = this.#vocabulary
    const frame = Buffer.concat([
      int32s([eos.length, text.offsets.length - 1, text.markers.length, ...eos, ...text.markers]),
      int32s(text.offsets),
      text.bytes,
    ])
    if ((await child.ask(frame, STARTING_LIMIT_MS)) === undefined) {
      child.end()
      throw new AparError('engine_error', 'the grammar engine does not start')
    }
    return child
  }
}

function busy(): AparError {
  const message = 'too many grammars wait to be compiled on this gpu node'
  return new AparError('overloaded', message, { retryAfterSeconds: 5 })
}

function refused(why: string): AparError {
  return new AparError('invalid_request', `output_format: ${why.slice(0, 300)}`, { param: 'output_format' })
}

function int32s(values: ArrayLike<number>): Buffer {
  return Buffer.from(Int32Array.from(values).buffer)
}

/** One process, which answers a frame with a frame. */
class Child {
  readonly #process: ChildProcess
  #received: Buffer[] = []
  #bytes = 0
  #answer: ((frame: Buffer | undefined) => void) | undefined
  alive = true

  constructor(folder: string) {
    this.#process = spawn(GRAMMAR_COMPILER, [folder, String(MAX_BYTES)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#process.stdin?.on('error', () => this.#ended())
    this.#process.stdout?.on('data', (chunk: Buffer) => this.#take(chunk))
    this.#process.on('error', () => this.#ended())
    this.#process.on('close', () => this.#ended())
  }

  /** The answer; undefined when the process has ended, or does not answer in time. */
  async ask(frame: Buffer, limitMs: number): Promise<Buffer | undefined> {
    if (!this.alive) return undefined
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise((resolve) => {
        this.#answer = resolve
        timer = setTimeout(() => resolve(undefined), limitMs)
        this.#process.stdin?.write(Buffer.concat([int32s([frame.length]), frame]))
      })
    } finally {
      clearTimeout(timer)
      this.#answer = undefined
    }
  }

  end(): void {
    this.alive = false
    this.#process.kill('SIGKILL')
  }

  #take(chunk: Buffer): void {
    this.#received.push(chunk)
    this.#bytes += chunk.length
    const [head] = this.#received
    if (head === undefined || this.#bytes < 4) return
    if (head.length < 4) this.#received = [Buffer.concat(this.#received)]
    const length = this.#received[0]?.readUInt32LE(0) ?? 0
    if (this.#bytes < 4 + length) return
    const all = Buffer.concat(this.#received)
    this.#received = []
    this.#bytes = 0
    this.#answer?.(all.subarray(4))
  }

  #ended(): void {
    this.alive = false
    this.#answer?.(undefined)
  }
}
