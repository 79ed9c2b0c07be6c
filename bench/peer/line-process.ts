import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { parseJson } from '../../shared/parse.ts'

const Answer = z.union([
  z.strictObject({ error: z.string() }),
  z.strictObject({ tokens: z.int().min(0), seconds: z.number().min(0) }),
])

/** Tokens and time of a command. */
export interface Rate {
  tokens: number
  seconds: number
}

/** A child process that answers each input line with one output line; one command at a time. */
export class LineProcess {
  readonly #child: ChildProcess
  readonly #exited: Promise<never>
  #answer: (line: string) => void = () => {}

  constructor(command: string, args: readonly string[]) {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    this.#exited = new Promise((_, reject) => {
      child.on('error', reject)
      child.on('exit', (code, signal) => reject(new Error(`${command} ended with ${signal ?? code}`)))
    })
    // `ask` reports the exit; without a pending command it must not be an unhandled rejection.
    this.#exited.catch(() => {})
    if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => this.#answer(line))
  }

  /** Sends a command and returns its answer. @throws Error from the program, or when it has ended. */
  async ask(...words: readonly (string | number)[]): Promise<Rate> {
    const line = new Promise<string>((resolve) => {
      this.#answer = resolve
    })
    this.#child.stdin?.write(`${words.join(' ')}\n`)
    const answer = parseJson(Answer, await Promise.race([line, this.#exited]))
    if ('error' in answer) throw new Error(`${words[0]}: ${answer.error}`)
    return answer
  }

  async close(): Promise<void> {
    this.#child.stdin?.end()
    await this.#exited.catch(() => {})
  }
}
