import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, readFileSync, truncateSync } from 'node:fs'
import { z } from 'zod'
import { UserError } from '../../explain.ts'
import type { Match } from './matches.ts'

const Line = z.object({ key: z.string(), judgment: z.string() })

/** Identifies a question to a judge: whatever could change its answer is in it. */
export function keyOf(model: string, { messages }: Match): string {
  return createHash('sha256')
    .update(JSON.stringify([model, messages]))
    .digest('hex')
}

/**
 * What a judge has said, a line for each, added as soon as it is said: a run that was ended goes on with what is missing, and
 * nothing is asked twice.
 */
export class Judgments {
  readonly #file: string
  readonly #known = new Map<string, string>()

  /** @throws UserError `invalid_option` for a file of another kind. */
  constructor(file: string) {
    this.#file = file
    if (!existsSync(file)) return
    const text = readFileSync(file, 'utf8')
    // A process that was killed may have left a part of a line.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    for (const line of whole.split('\n').filter(Boolean)) {
      const { key, judgment } = parsed(line, file)
      this.#known.set(key, judgment)
    }
    if (whole.length < text.length) truncateSync(file, Buffer.byteLength(whole))
  }

  get(key: string): string | undefined {
    return this.#known.get(key)
  }

  add(
    key: string,
    { question, turn, prompt, players }: Match,
    names: readonly string[],
    judgment: string,
  ): void {
    this.#known.set(key, judgment)
    const sets = players.map((player) => names[player])
    appendFileSync(this.#file, `${JSON.stringify({ key, question, turn, prompt, sets, judgment })}\n`)
  }
}

function parsed(line: string, file: string): z.infer<typeof Line> {
  try {
    return Line.parse(JSON.parse(line))
  } catch {
    throw new UserError('invalid_option', `--out: ${file} has something else than judgments`)
  }
}
