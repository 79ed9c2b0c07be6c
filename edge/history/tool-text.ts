/**
 * Calls of tools and their results as text, for conversations that had them (docs/adr/0052): in the words that Hermes,
 * Qwen and many other models were trained with.
 */

/** `args`: JSON, or for a custom tool any text. */
export function toolCallText(name: string, args: string): string {
  return `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": ${asJson(args)}}\n</tool_call>`
}

export function toolResultText(result: string): string {
  return `<tool_response>\n${result}\n</tool_response>`
}

function asJson(text: string): string {
  try {
    JSON.parse(text)
    return text
  } catch {
    return JSON.stringify(text)
  }
}

/** The parts of one message that are not empty, each on lines of its own. */
export function paragraphs(parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('\n')
}
