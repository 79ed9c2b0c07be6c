import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { parseJson } from '../../shared/parse.ts'

const Answer = z.union([
  z.strictObject({ error: z.string() }),
  z.strictObject({ tokens: z.int().min(0), seconds: z.number().min(0) }),
])

/** What a command took. */
export interface Rate {
  tokens: number
  seconds: number
}

/** A program that answers each line with one line; one command at a time. */
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
    // Whoever waits for an answer hears of it; nobody does when it is closed.
    this.#exited.catch(() => {})
    if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => this.#answer(line))
  }

  /** @throws Error the program's, or that it ended. */
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
