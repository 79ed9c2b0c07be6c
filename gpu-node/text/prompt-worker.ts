// A process that encodes one prompt at a time: a template or a pattern that does not come to an end, or takes all memory,
// costs only this process, which prompt-process.ts then replaces.
import { constants, setPriority } from 'node:os'
import { deserialize } from 'node:v8'
import { Worker } from 'node:worker_threads'
import { AparError } from '../../shared/errors.ts'
import type { TokenizerFiles } from '../checkpoint/tokenizer-files.ts'
import { StartupError } from '../startup-error.ts'
import { checkPatterns } from './pattern-check.ts'
import { checkTemplate, PromptEncoder } from './prompt-encoder.ts'
import type { FirstMessage, FromWorker, ToWorker, Worked } from './prompt-process.ts'
import { TokenQueries } from './token-queries.ts'

function main({ files, controlIds, vocabSize, check, yields }: FirstMessage): void {
  if (yields) setPriority(constants.priority.PRIORITY_BELOW_NORMAL)
  const tokenizer: TokenizerFiles = deserialize(files)
  const encoder = open(tokenizer, controlIds, vocabSize, check)
  if (!encoder) return
  const queries = new TokenQueries(tokenizer, encoder)
  process.on('message', (message: ToWorker) => send(work(encoder, queries, message)))
  send({ type: 'ready', dropsLeadingSpace: encoder.dropsLeadingSpace })
}

/** Each of them has short texts to work on, for which it needs milliseconds. */
const CHECK_LIMIT_MS = 5_000
/** The largest tokenizers take a few seconds. */
const LOADING_LIMIT_MS = 60_000

function open(
  files: TokenizerFiles,
  controlIds: readonly number[],
  vocabSize: number,
  check: boolean,
): PromptEncoder | undefined {
  const onCheck = (step: string) => send({ type: 'loading', step, limitMs: CHECK_LIMIT_MS })
  try {
    if (check) {
      checkPatterns(files, onCheck)
      checkTemplate(files, onCheck)
    }
    send({ type: 'loading', step: `${files.file}: loading its tokenizer`, limitMs: LOADING_LIMIT_MS })
    return new PromptEncoder(files, controlIds, vocabSize)
  } catch (error) {
    if (!(error instanceof StartupError)) throw error
    send({ type: 'refused', code: error.code, message: error.message })
    return undefined
  }
}

function work(
  encoder: PromptEncoder,
  queries: TokenQueries,
  message: ToWorker,
): Worked | (FromWorker & { type: 'failed' }) {
  try {
    if ('query' in message) return { type: 'answered', answer: queries.answer(message.query) }
    return { type: 'encoded', ids: encoder.encodePrompt(message.prompt, message.maxTokens) }
  } catch (error) {
    // A bug ends this process, with its stack in the error that the node gets.
    if (!(error instanceof AparError)) throw error
    const { code, message, param } = error
    return { type: 'failed', code, message, param }
  }
}

function send(message: FromWorker): void {
  process.send?.(message)
}

/** A thread waits, however busy this process is, until the node has ended, which has the other end of standard input. */
const END_WITH_NODE = "require('fs').readSync(0, Buffer.alloc(1)); process.kill(process.pid, 'SIGKILL')"
new Worker(END_WITH_NODE, { eval: true })
// For all processes of a terminal or a service: the node ends this one when it has no prompt left.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
// The node ends it.
process.on('uncaughtException', ({ stack = '' }) => send({ type: 'crashed', stack }))
process.once('message', main)
