import { createHash } from 'node:crypto'
import { isObject } from '../../shared/protocol/answer-schema.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'
import type { Tool } from '../../shared/protocol/tools.ts'
import { toolParameters } from './parameters.ts'
import type { ModelTools, ToolFormat } from './tool-format.ts'

/** What a chat template gets. */
export interface TemplateInput {
  readonly messages: readonly TemplateMessage[]
  /** As transformers gives them to templates. */
  readonly tools?: readonly object[]
}

export interface TemplateMessage {
  readonly role: ChatMessage['role']
  readonly content: string
  readonly reasoning_content?: string
  readonly tool_calls?: readonly object[]
  readonly tool_call_id?: string
  readonly name?: string
}

type Call = NonNullable<ChatMessage['tool_calls']>[number]

const SHORT_ID = /^[A-Za-z0-9]{9}$/

/**
 * Messages and tools for a template, where there are tools, calls or results: as they are for a template that knows them,
 * else as text. Several inputs are to be tried in order: not all templates take a system message.
 */
export function templateInputs(
  messages: readonly ChatMessage[],
  tools: readonly Tool[] | undefined,
  model: ModelTools,
): TemplateInput[] {
  if (tools ? model.inTemplate : model.inTemplateWithoutTools) {
    const input = { messages: structured(messages, model.format) }
    return [tools ? { ...input, tools: tools.map(asFunction) } : input]
  }
  const texts = asTexts(messages, model.format, objectTools(tools ?? [], model.format))
  return tools ? withDescription(texts, description(tools, model.format)) : [{ messages: texts }]
}

function asFunction({ name, description = '', parameters }: Tool): object {
  const schema = parameters ?? { type: 'object', properties: {} }
  return { type: 'function', function: { name, description, parameters: schema } }
}

function structured(messages: readonly ChatMessage[], format: ToolFormat): TemplateMessage[] {
  const names = new Map(
    messages.flatMap(({ tool_calls = [] }) => tool_calls.map(({ id, name }) => [id, name])),
  )
  const idOf = (id: string) => (format.shortIds && !SHORT_ID.test(id) ? shortened(id) : id)
  const out: TemplateMessage[] = []
  for (const [index, { role, content, tool_calls, tool_call_id, reasoning_content }] of messages.entries()) {
    const reasoning = reasoning_content === undefined ? {} : { reasoning_content }
    if (role === 'tool') {
      const id = tool_call_id ?? callBefore(messages, index)?.id ?? ''
      out.push({ role, content, tool_call_id: idOf(id), name: names.get(id) ?? '' })
    } else if (tool_calls) {
      const calls = tool_calls.map((call) => asCall({ ...call, id: idOf(call.id) }))
      out.push({ role, content, ...reasoning, tool_calls: calls })
    } else out.push({ role, content, ...reasoning })
  }
  return format.oneCallPerMessage ? oneByOne(out) : out
}

function asCall({ id, name, arguments: text }: Call): object {
  return { id, type: 'function', function: { name, arguments: parsed(text) } }
}

/** The call that a result without an id belongs to: that of the same place. */
function callBefore(messages: readonly ChatMessage[], index: number): Call | undefined {
  const at = messages.slice(0, index).findLastIndex(({ role }) => role !== 'tool')
  return messages[at]?.tool_calls?.[index - at - 1]
}

/** Each call in a message of its own, with its result behind it. */
function oneByOne(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const out: TemplateMessage[] = []
  for (let at = 0; at < messages.length; at++) {
    const message = messages[at]
    if (!message) break
    const { tool_calls = [] } = message
    if (tool_calls.length < 2) {
      out.push(message)
      continue
    }
    const next = messages.slice(at + 1).findIndex(({ role }) => role !== 'tool')
    const results = messages.slice(at + 1, next < 0 ? messages.length : at + 1 + next)
    for (const [index, call] of tool_calls.entries()) {
      out.push({ ...message, content: index === 0 ? message.content : '', tool_calls: [call] })
      const result = results[index]
      if (result) out.push(result)
    }
    out.push(...results.slice(tool_calls.length))
    at += results.length
  }
  return out
}

function shortened(id: string): string {
  return createHash('sha256').update(id).digest('hex').slice(0, 9)
}

/** Calls follow the text of their message; results that follow each other are one message of the user. */
function asTexts(
  messages: readonly ChatMessage[],
  format: ToolFormat,
  asObjects: readonly Tool[],
): TemplateMessage[] {
  const out: { role: ChatMessage['role']; content: string; reasoning_content?: string }[] = []
  let afterResult = false
  for (const { role, content, tool_calls = [], reasoning_content } of messages) {
    const last = out.at(-1)
    const result = `<tool_response>\n${content}\n</tool_response>`
    if (role === 'tool' && afterResult && last) last.content = `${last.content}\n${result}`
    else if (role === 'tool') out.push({ role: 'user', content: result })
    else {
      const calls = tool_calls.length > 0 ? callsText(tool_calls, format, asObjects) : ''
      const text = [content, calls].filter((part) => part !== '').join('\n')
      out.push({ role, content: text, ...(reasoning_content !== undefined && { reasoning_content }) })
    }
    afterResult = role === 'tool'
  }
  return out
}

function callsText(calls: readonly Call[], format: ToolFormat, asObjects: readonly Tool[]): string {
  const { open, begin, middle, end, between, close } = format
  const texts = calls.map(({ name, arguments: text }) => {
    const asObject = asObjects.some((tool) => tool.name === name)
    return `${begin}${JSON.stringify(name).slice(1, -1)}${middle}${argumentsText(text, format, asObject)}${end}`
  })
  return `${open}${texts.join(between)}${close}`
}

function argumentsText(text: string, { parameters }: ToolFormat, asObject: boolean): string {
  if (!parameters) return asJson(text)
  const value = parsed(text)
  if (asObject || !isObject(value)) return `${asJson(text)}\n`
  const { begin, middle, end } = parameters
  const written = Object.entries(value).map(([name, each]) => {
    return `${begin}${name}${middle}${typeof each === 'string' ? each : JSON.stringify(each)}\n${end}`
  })
  return written.join('')
}

function description(tools: readonly Tool[], format: ToolFormat): string {
  const { open, begin, middle, end, close, parameters } = format
  const list = tools.map((tool) => JSON.stringify(asFunction(tool))).join('\n')
  const each = parameters && `${parameters.begin}PARAMETER${parameters.middle}VALUE\n${parameters.end}`
  const example = `${open}${begin}NAME${middle}${each ?? '{ARGUMENTS}'}${end}${close}`
  const how = parameters ? 'each of its parameters' : 'its arguments as JSON'
  const names = objectTools(tools, format).map(({ name }) => name)
  const others =
    names.length > 0
      ? `\nTo call ${names.join(', ')}, write the arguments as JSON:\n${open}${begin}NAME${middle}{ARGUMENTS}\n${end}${close}`
      : ''
  return (
    `You may call these tools:\n${list}\n\nTo call a tool, write this with the name of the tool and ${how}, ` +
    `and nothing behind it:\n${example}${others}\n` +
    'You get its result in the next message. Where no tool helps, answer in words.'
  )
}

/** Where arguments are written one by one: the tools whose arguments are a JSON object all the same. */
function objectTools(tools: readonly Tool[], format: ToolFormat): readonly Tool[] {
  const lists = toolParameters({ tools }, format)
  return lists ? tools.filter(({ name }) => !lists.get(name)) : []
}

function withDescription(messages: readonly TemplateMessage[], text: string): TemplateInput[] {
  const [first, ...rest] = messages
  if (first?.role === 'system') {
    return [{ messages: [{ ...first, content: `${first.content}\n\n${text}` }, ...rest] }]
  }
  const asked = messages.map((message, index) => {
    return index === 0 ? { ...message, content: `${text}\n\n${message.content}` } : message
  })
  return [{ messages: [{ role: 'system', content: text }, ...messages] }, { messages: asked }]
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function asJson(text: string): string {
  try {
    JSON.parse(text)
    return text
  } catch {
    return JSON.stringify(text)
  }
}
