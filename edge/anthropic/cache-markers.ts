import type { MessagesRequest } from '../../shared/anthropic.ts'

type Part = Readonly<Record<string, unknown>>

/**
 * The beginning of the prompt, the same in all calls that can find it in the cache: up to the first marker, but not beyond
 * the first message, since markers move with the conversation. undefined: nothing is marked.
 */
export function markedBeginning(body: MessagesRequest): string | undefined {
  const { tools = [], system = [], messages } = body
  const [first = [], ...others] = messages.map(({ content, ...message }) => [message, ...partsOf(content)])
  const beginning: Part[] = [...tools, ...partsOf(system), ...first]
  const marker = beginning.findIndex(isMarked)
  if (marker === -1 && body.cache_control === undefined && !others.flat().some(isMarked)) return undefined
  const until = marker === -1 ? beginning : beginning.slice(0, marker + 1)
  return JSON.stringify(until.map(({ cache_control: _, ...part }) => part))
}

/** Clients write the same text as a block when they mark it. */
function partsOf(content: string | readonly Part[]): readonly Part[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content
}

function isMarked({ cache_control }: Part): boolean {
  return cache_control !== undefined
}
