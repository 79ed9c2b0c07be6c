import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { parseJson } from '../../shared/parse.ts'

const Failure = z.strictObject({ error: z.string() })
const Rate = z.strictObject({ tokens: z.int().min(0), seconds: z.number().min(0) })

/** Tokens and time of a command. */
export type Rate = z.infer<typeof Rate>

/** Named by `command`; the other fields are its arguments. */
export interface JsonCommand {
  readonly command: string
  readonly [argument: string]: unknown
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

  /** Sends a command in words and returns its answer. @throws Error from the program, or when it has ended. */
  async ask(...words: readonly (string | number)[]): Promise<Rate> {
    return await this.#exchange(String(words[0]), words.join(' '), Rate)
  }

  /** The same with a command in JSON. */
  async send<T extends object>(command: JsonCommand, answer: z.ZodType<T>): Promise<T> {
    return await this.#exchange(command.command, JSON.stringify(command), answer)
  }

  async #exchange<T extends object>(name: string, line: string, schema: z.ZodType<T>): Promise<T> {
    const answered = new Promise<string>((resolve) => {
      this.#answer = resolve
    })
    this.#child.stdin?.write(`${line}\n`)
    const answer = parseJson(z.union([Failure, schema]), await Promise.race([answered, this.#exited]))
    if ('error' in answer) throw new Error(`${name}: ${answer.error}`)
    return answer
  }

  async close(): Promise<void> {
    this.#child.stdin?.end()
    await this.#exited.catch(() => {})
  }
}
