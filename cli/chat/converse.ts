import { createInterface } from 'node:readline/promises'
import { AparError } from '../../shared/errors.ts'
import { explain } from '../explain.ts'
import { ask, type Chat } from './ask.ts'
import { Conversation } from './conversation.ts'
import { readHistory, writeHistory } from './history.ts'
import { InputLines } from './input.ts'
import { HELP, plainText, type SlashCommand, slashCommand } from './slash-command.ts'

/** A conversation on a terminal, until its user ends it. */
export async function converse(settings: Chat, system: string | undefined): Promise<void> {
  const conversation = new Conversation()
  conversation.system = system
  const input = new InputLines()
  // Node's editor of lines moves the cursor; a terminal that cannot do that has the system's.
  const edits = process.env.TERM !== 'dumb'
  const lines = createInterface({
    input: process.stdin,
    output: process.stderr,
    terminal: edits,
    history: readHistory(),
    removeHistoryDuplicates: true,
  })
  lines.on('history', (history) => writeHistory(history))
  let cancel: AbortController | undefined
  // Ctrl-C cancels the running answer or what is typed, or ends the conversation when there is neither.
  const interrupt = () => {
    if (cancel) return cancel.abort()
    if (!input.isOpen && lines.line === '') return lines.close()
    input.clear()
    if (edits) {
      lines.write(null, { ctrl: true, name: 'e' })
      lines.write(null, { ctrl: true, name: 'u' })
    } else console.error()
    prompt()
  }
  if (edits) lines.on('SIGINT', interrupt)
  else process.on('SIGINT', interrupt)
  const prompt = () => {
    lines.setPrompt(input.isOpen ? '. ' : '> ')
    lines.prompt()
  }
  const answer = async (asked: string) => {
    cancel = new AbortController()
    const { signal } = cancel
    const leftOut = (messages: number) =>
      console.error(
        `apar: the oldest ${messages} messages no longer fit into the model's context and are left out`,
      )
    await conversation
      .ask(asked, (messages) => ask(settings, messages, signal), leftOut)
      .catch((error: unknown) => {
        if (!(error instanceof AparError)) throw error
        console.error(`apar: ${explain(error)}`)
      })
    cancel = undefined
  }
  console.error(
    `${settings.request.model} at ${settings.baseUrl}; /help lists what there is besides questions`,
  )
  prompt()
  for await (const line of lines) {
    const text = input.push(line)
    if (text !== undefined && text.trim() !== '') {
      const command = slashCommand(text)
      if (command?.name === 'exit') break
      const asked = command ? obey(command, conversation, settings) : plainText(text)
      if (asked !== undefined) await answer(asked)
    }
    prompt()
  }
  lines.close()
  process.off('SIGINT', interrupt)
}

/** Does what the command says. Returns a question that is to be asked. */
function obey(command: SlashCommand, conversation: Conversation, chat: Chat): string | undefined {
  const { request } = chat
  switch (command.name) {
    case 'clear':
      conversation.clear()
      return undefined
    case 'retry': {
      const again = conversation.takeBack()
      if (again === undefined) console.error('apar: there is no question yet')
      return again
    }
    case 'system':
      conversation.system = command.text === '' ? undefined : command.text
      return undefined
    case 'model':
      request.model = command.text
      return undefined
    case 'parallel':
      delete request.branching
      return undefined
    case 'serial':
      request.branching = { enabled: false }
      return undefined
    case 'reasoning':
      chat.showsReasoning = !chat.showsReasoning
      return undefined
    case 'unknown':
      console.error(`apar: ${command.text}`)
      return undefined
    default:
      console.error(HELP)
      return undefined
  }
}
