import { setTimeout as sleep } from 'node:timers/promises'
import { ReceivedAnswer, RequestFailed } from '../serving/target/answer.ts'
import type { Target } from '../serving/target/target.ts'
import { type Judgments, keyOf } from './judgments.ts'
import type { Match } from './matches.ts'

const ATTEMPTS = 6
const FIRST_WAIT_MS = 1000

export interface JudgeOptions {
  readonly target: Target
  readonly model: string
  readonly maxTokens: number
  readonly concurrency: number
  readonly judgments: Judgments
  /** Names of the answer sets. */
  readonly names: readonly string[]
  readonly onProgress: (done: number, of: number) => void
  /** Before the first repetition of a request; it doubles. */
  readonly waitMs?: number
}

/** Asks the judge what it has not said yet. @throws RequestFailed when it refuses, or fails several times in turn. */
export async function askJudge(matches: readonly Match[], options: JudgeOptions): Promise<void> {
  const { judgments, model, concurrency, names } = options
  const open = new Map<string, Match>()
  for (const match of matches) {
    const key = keyOf(model, match)
    // Equal answers of both sets make equal questions.
    if (judgments.get(key) === undefined) open.set(key, match)
  }
  let done = matches.length - open.size
  options.onProgress(done, matches.length)
  const waiting = open.entries()
  const work = async () => {
    for (const [key, match] of waiting) {
      judgments.add(key, match, names, await ask(match, options))
      options.onProgress(++done, matches.length)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
}

async function ask({ messages }: Match, options: JudgeOptions): Promise<string> {
  const { target, model, maxTokens, waitMs = FIRST_WAIT_MS } = options
  for (let attempt = 1; ; attempt++) {
    const answer = new ReceivedAnswer()
    try {
      const request = {
        model,
        messages,
        maxTokens,
        fixedLength: false,
        temperature: 0,
        seed: 0,
        mode: undefined,
      }
      await target.ask(request, answer)
      return answer.text
    } catch (error) {
      if (!(error instanceof RequestFailed) || !isPassing(error) || attempt === ATTEMPTS) throw error
      await sleep(waitMs * 2 ** (attempt - 1))
    }
  }
}

/** What a refusal says about the request stays true; a server may be busy, or a connection lost, for a moment. */
function isPassing({ code }: RequestFailed): boolean {
  return /^(http_(408|409|429|5\d\d)|timeout|incomplete|connection_lost|E[A-Z]+)$|rate_limit|overloaded|server_error|_busy/.test(
    code,
  )
}
