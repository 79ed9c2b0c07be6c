import { createInterface } from 'node:readline/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { WebSocket } from 'ws'
import { openStream } from '../../client/index.ts'
import { AparError } from '../../shared/errors.ts'
import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import type { Speculation } from '../../shared/protocol/speculation.ts'
import { firstModel } from '../chat/models.ts'
import { type Answer, showBranches, showOrdered, summary } from '../chat/show.ts'
import { traceSummary } from '../chat/trace-summary.ts'
import { explain, UserError } from '../explain.ts'
import { decimal, integer, speculationOption } from '../options.ts'

interface ChatFlags {
  url: string
  key?: string
  model?: string
  serial?: boolean
  maxTokens?: number
  temperature?: number
  speculation?: Speculation
  trace?: boolean
}

interface Chat {
  baseUrl: string
  apiKey: string
  request: Omit<GenerateRequest, 'messages'>
}

export function registerChat(program: Command): void {
  program
    .command('chat')
    .description('chats with a model; shows the branches while they are generated')
    .argument('[prompt]', 'one question; without it an interactive conversation starts', question)
    .option('--url <url>', 'address of the edge', 'http://127.0.0.1:8787')
    .option('--key <key>', 'API key (default: APAR_API_KEY)')
    .option('--model <name>', 'default: the first model of the edge')
    .option('--serial', 'without branches')
    .option('--max-tokens <n>', 'new tokens of all branches together', integer(1, 1_000_000))
    .option('--temperature <t>', '0 is greedy (default: from the model)', decimal(0, 2))
    .addOption(speculationOption())
    .option('--trace', 'says what the engine did for each answer')
    .action(chat)
}

function question(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('a question is needed')
  return text
}

async function chat(prompt: string | undefined, flags: ChatFlags): Promise<void> {
  const apiKey = flags.key ?? process.env.APAR_API_KEY
  if (!apiKey) throw new UserError('missing_option', 'an API key is needed: --key, or APAR_API_KEY')
  if (!URL.canParse(flags.url)) throw new UserError('invalid_option', `--url: ${flags.url} is not a URL`)
  const request: Chat['request'] = { model: flags.model ?? (await firstModel(flags.url, apiKey)) }
  if (flags.serial) request.branching = { enabled: false }
  if (flags.maxTokens !== undefined) request.max_tokens = flags.maxTokens
  if (flags.temperature !== undefined) request.temperature = flags.temperature
  if (flags.speculation !== undefined) request.speculation = flags.speculation
  if (flags.trace) request.trace = true
  const settings = { baseUrl: flags.url, apiKey, request }
  if (prompt === undefined) return await converse(settings)
  const cancel = new AbortController()
  process.once('SIGINT', () => cancel.abort())
  await ask(settings, [{ role: 'user', content: prompt }], cancel.signal)
}

async function converse(settings: Chat): Promise<void> {
  const messages: ChatMessage[] = []
  const isTerminal = process.stdin.isTTY === true
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: isTerminal })
  lines.setPrompt(isTerminal ? '> ' : '')
  let cancel: AbortController | undefined
  // Ctrl-C cancels the running answer, or ends the conversation when none runs.
  lines.on('SIGINT', () => (cancel ? cancel.abort() : lines.close()))
  lines.prompt()
  for await (const line of lines) {
    if (line.trim() !== '') {
      cancel = new AbortController()
      messages.push({ role: 'user', content: line })
      const answer = await ask(settings, messages, cancel.signal).catch((error: unknown) => {
        if (!isTerminal || !(error instanceof AparError)) throw error
        console.error(`apar: ${explain(error)}`)
      })
      cancel = undefined
      // Without an answer the question is removed, so that user and assistant messages alternate.
      if (answer) messages.push({ role: 'assistant', content: answer.text })
      else messages.pop()
    }
    lines.prompt()
  }
}

/** Asks one question; when `signal` aborts it, the answer is the text received so far. */
async function ask(chat: Chat, messages: ChatMessage[], signal: AbortSignal): Promise<Answer> {
  const { baseUrl, apiKey, request } = chat
  const begun = performance.now()
  const full = { ...request, messages: [...messages] }
  const stream = openStream({ baseUrl, apiKey, request: full, signal, WebSocket })
  const { stdout, stderr } = process
  const live = stdout.isTTY && !request.branching
  const answer = live ? await showBranches(stream, stdout) : await showOrdered(stream, stdout, stdout.isTTY)
  if (stderr.isTTY) console.error(`(${summary(answer, performance.now() - begun)})`)
  if (request.trace) console.error(`(${traceSummary(stream.trace)})`)
  return answer
}
