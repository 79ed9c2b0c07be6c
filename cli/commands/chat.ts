import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { WebSocket } from 'ws'
import { openStream } from '../../client/index.ts'
import { AparError } from '../../shared/errors.ts'
import type { ChatMessage, GenerateRequest } from '../../shared/protocol/request.ts'
import { firstModel } from '../chat/models.ts'
import { type Answer, showLanes, showOrdered, summary } from '../chat/show.ts'
import { explain, UserError } from '../explain.ts'
import { integer } from '../options.ts'

interface ChatFlags {
  url: string
  key?: string
  model?: string
  serial?: boolean
  maxTokens?: number
  temperature?: number
}

interface Chat {
  baseUrl: string
  apiKey: string
  request: Omit<GenerateRequest, 'messages'>
}

export function registerChat(program: Command): void {
  program
    .command('chat')
    .description('talks to a model; shows its branches while they grow')
    .argument('[prompt]', 'one question; without it a conversation begins')
    .option('--url <url>', 'address of the edge', 'http://127.0.0.1:8787')
    .option('--key <key>', 'API key (default: APAR_API_KEY)')
    .option('--model <name>', 'default: the first that is served')
    .option('--serial', 'without branches')
    .option('--max-tokens <n>', 'new tokens of all branches together', integer(1, 1_000_000))
    .option('--temperature <t>', '0 is greedy (default: as the model says)', Number)
    .action(chat)
}

async function chat(prompt: string | undefined, flags: ChatFlags): Promise<void> {
  const apiKey = flags.key ?? process.env.APAR_API_KEY
  if (!apiKey) throw new UserError('an API key is needed: --key, or APAR_API_KEY')
  if (!URL.canParse(flags.url)) throw new UserError(`--url: ${flags.url} is not a URL`)
  const request: Chat['request'] = { model: flags.model ?? (await firstModel(flags.url, apiKey)) }
  if (flags.serial) request.branching = { enabled: false }
  if (flags.maxTokens !== undefined) request.max_tokens = flags.maxTokens
  if (flags.temperature !== undefined) request.temperature = flags.temperature
  const settings = { baseUrl: flags.url, apiKey, request }
  if (prompt !== undefined) await ask(settings, [{ role: 'user', content: prompt }])
  else await converse(settings)
}

async function converse(settings: Chat): Promise<void> {
  const messages: ChatMessage[] = []
  const isTerminal = process.stdin.isTTY === true
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: isTerminal })
  if (isTerminal) lines.setPrompt('> ')
  lines.on('SIGINT', () => lines.close())
  lines.prompt()
  for await (const line of lines) {
    if (line.trim() !== '') {
      messages.push({ role: 'user', content: line })
      const answer = await ask(settings, messages).catch((error: unknown) => {
        if (!isTerminal || !(error instanceof AparError)) throw error
        console.error(`apar: ${explain(error)}`)
      })
      // A question without an answer would confuse the next one.
      if (answer) messages.push({ role: 'assistant', content: answer.text })
      else messages.pop()
    }
    lines.prompt()
  }
}

/** One question and its answer; Ctrl-C ends the answer and keeps what has come. */
async function ask({ baseUrl, apiKey, request }: Chat, messages: ChatMessage[]): Promise<Answer> {
  const cancel = new AbortController()
  const onInterrupt = () => cancel.abort()
  process.on('SIGINT', onInterrupt)
  const begun = performance.now()
  try {
    const full = { ...request, messages: [...messages] }
    const stream = openStream({ baseUrl, apiKey, request: full, signal: cancel.signal, WebSocket })
    const live = process.stdout.isTTY && !request.branching
    const answer = live
      ? await showLanes(stream, process.stdout)
      : await showOrdered(stream, process.stdout, process.stdout.isTTY)
    if (process.stderr.isTTY) console.error(`(${summary(answer, performance.now() - begun)})`)
    return answer
  } finally {
    process.off('SIGINT', onInterrupt)
  }
}
