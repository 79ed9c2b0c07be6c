/** What `/name rest` of a user means. */
export type SlashCommand =
  | { readonly name: 'help' | 'clear' | 'retry' | 'exit' | 'parallel' | 'serial' | 'reasoning' }
  | { readonly name: 'system' | 'model'; readonly text: string }
  | { readonly name: 'unknown'; readonly text: string }

const MEANINGS = {
  help: 'lists these commands',
  clear: 'begins a new conversation',
  retry: 'answers the last question again',
  'system TEXT': 'gives the model instructions from here on; without TEXT, takes them back',
  'model NAME': 'goes on with another model',
  parallel: 'answers with branches',
  serial: 'answers without branches',
  reasoning: 'hides what the model thinks, or shows it again',
  exit: 'ends, as Ctrl-D does',
} as const

export const HELP = [
  ...Object.entries(MEANINGS).map(([name, meaning]) => `/${name.padEnd(12)} ${meaning}`),
  'Ctrl-C        ends the answer; without one, the conversation',
  'A line that ends with \\ goes on in the next one; so does all between two lines with """. // begins text with /.',
].join('\n')

/** Undefined for text that is for the model. */
export function slashCommand(line: string): SlashCommand | undefined {
  if (!line.startsWith('/') || line.startsWith('//')) return undefined
  const [, word = '', rest = ''] = /^\/(\S*)\s*([\s\S]*)$/.exec(line) ?? []
  const text = rest.trim()
  switch (word) {
    case 'system':
      return { name: word, text }
    case 'model':
      return text === '' ? { name: 'unknown', text: '/model needs a name' } : { name: word, text }
    case 'help':
    case 'clear':
    case 'retry':
    case 'parallel':
    case 'serial':
    case 'reasoning':
    case 'exit':
      return { name: word }
    case 'quit':
      return { name: 'exit' }
    case '?':
      return { name: 'help' }
    default:
      return { name: 'unknown', text: `there is no /${word}; /help lists the commands` }
  }
}

/** The text that a line means which is no command. */
export function plainText(line: string): string {
  return line.startsWith('//') ? line.slice(1) : line
}
