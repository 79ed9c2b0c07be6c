import { text as readAll } from 'node:stream/consumers'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import type { Speculation } from '../../shared/protocol/speculation.ts'
import { ask, type Chat } from '../chat/ask.ts'
import { converse } from '../chat/converse.ts'
import { firstModel } from '../chat/models.ts'
import { UserError } from '../explain.ts'
import { decimal, integer, speculationOption } from '../options.ts'

interface ChatFlags {
  url: string
  key?: string
  model?: string
  system?: string
  serial?: boolean
  maxTokens?: number
  temperature?: number
  speculation?: Speculation
  trace?: boolean
  hideReasoning?: boolean
  json?: boolean
}

export function registerChat(program: Command): void {
  program
    .command('chat')
    .description('chats with a model; shows the branches while they are generated')
    .argument(
      '[prompt]',
      'one question; without it a conversation on a terminal, else the question is what comes in',
      question,
    )
    .option('--url <url>', 'address of the edge', 'http://127.0.0.1:8787')
    .addOption(new Option('--key <key>', 'API key (default: APAR_API_KEY)').env('APAR_API_KEY'))
    .option('--model <name>', 'default: the first model of the edge')
    .option('--system <text>', 'instructions for the model')
    .option('--serial', 'without branches')
    .option('--max-tokens <n>', 'new tokens of all branches together', integer(1, 1_000_000))
    .option('--temperature <t>', '0 is greedy (default: from the model)', decimal(0, 2))
    .addOption(speculationOption())
    .option('--trace', 'says what the engine did for each answer')
    .option('--hide-reasoning', 'what a model thinks before it answers is not shown')
    .option('--json', 'prints the answer as JSON, in one line: text, reasoning, branches, reason, usage')
    .action(chat)
}

function question(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('a question is needed')
  return text
}

async function chat(prompt: string | undefined, flags: ChatFlags): Promise<void> {
  const apiKey = flags.key
  if (!apiKey) throw new UserError('missing_option', 'an API key is needed: --key, or APAR_API_KEY')
  if (!URL.canParse(flags.url)) throw new UserError('invalid_option', `--url: ${flags.url} is not a URL`)
  const request: Chat['request'] = { model: flags.model ?? (await firstModel(flags.url, apiKey)) }
  if (flags.serial) request.branching = { enabled: false }
  if (flags.maxTokens !== undefined) request.max_tokens = flags.maxTokens
  if (flags.temperature !== undefined) request.temperature = flags.temperature
  if (flags.speculation !== undefined) request.speculation = flags.speculation
  if (flags.trace) request.trace = true
  const showsReasoning = flags.hideReasoning !== true
  const settings = { baseUrl: flags.url, apiKey, request, json: flags.json === true, showsReasoning }
  if (prompt === undefined && process.stdin.isTTY) {
    if (flags.json) throw new UserError('invalid_option', '--json needs a question')
    return await converse(settings, flags.system)
  }
  const asked = prompt ?? (await readAll(process.stdin)).trim()
  if (asked === '')
    throw new UserError('missing_option', 'a question is needed: as an argument, or on the input')
  const cancel = new AbortController()
  process.once('SIGINT', () => cancel.abort())
  const system: ChatMessage[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  await ask(settings, [...system, { role: 'user', content: asked }], cancel.signal)
  // What came until then is printed; a script learns that it is not all.
  if (cancel.signal.aborted) process.exitCode = 130
}
