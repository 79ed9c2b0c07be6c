import { createInterface } from 'node:readline/promises'
import { listModels } from '../../client/models.ts'
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
      const asked = command ? await obey(command, conversation, settings) : plainText(text)
      if (asked !== undefined) await answer(asked)
    }
    prompt()
  }
  lines.close()
  process.off('SIGINT', interrupt)
}

/** Does what the command says, and says so. Returns a question that is to be asked. */
async function obey(
  command: SlashCommand,
  conversation: Conversation,
  chat: Chat,
): Promise<string | undefined> {
  const { request } = chat
  switch (command.name) {
    case 'clear':
      conversation.clear()
      console.error('a new conversation')
      return undefined
    case 'retry': {
      const again = conversation.takeBack()
      if (again === undefined) console.error('apar: there is no question yet')
      return again
    }
    case 'system':
      conversation.system = command.text === '' ? undefined : command.text
      console.error(command.text === '' ? 'no instructions any more' : 'instructions from here on')
      return undefined
    case 'model':
      await changeModel(chat, command.text)
      return undefined
    case 'parallel':
      delete request.branching
      console.error('answers may have branches')
      return undefined
    case 'serial':
      request.branching = { enabled: false }
      console.error('answers have no branches')
      return undefined
    case 'reasoning':
      chat.showsReasoning = !chat.showsReasoning
      console.error(`what the model thinks is ${chat.showsReasoning ? 'shown' : 'hidden'}`)
      return undefined
    case 'unknown':
      console.error(`apar: ${command.text}`)
      return undefined
    default:
      console.error(HELP)
      return undefined
  }
}

/** To one that is served; else the conversation goes on as it is. */
async function changeModel({ baseUrl, apiKey, request }: Chat, model: string): Promise<void> {
  try {
    const served = await listModels(baseUrl, apiKey)
    if (!served.includes(model)) {
      console.error(`apar: there is no model ${JSON.stringify(model)}; served are: ${served.join(', ')}`)
      return
    }
    request.model = model
    console.error(`${model} answers from here on`)
  } catch (error) {
    const why = error instanceof AparError ? explain(error) : `nothing answers at ${baseUrl}`
    console.error(`apar: ${why}`)
  }
}
