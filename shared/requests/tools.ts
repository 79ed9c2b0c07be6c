import { z } from 'zod'
import { problemOf } from '../protocol/answer-schema.ts'
import type { GenerateRequest } from '../protocol/request.ts'
import { MAX_TOOLS, ToolName } from '../protocol/tools.ts'
import { CacheControl } from './cache-control.ts'
import { ignored } from './fields.ts'

/** What a request's tools become. */
export type ToolFields = Pick<GenerateRequest, 'tools' | 'tool_choice' | 'parallel_tool_calls'>

const FUNCTIONS_ONLY = 'only functions are supported'
const Parameters = z.record(z.string(), z.unknown())
const Fields = {
  name: ToolName,
  description: z.string().optional(),
  parameters: Parameters.optional(),
  /** The arguments always keep to the schema; with `strict` it is refused if it cannot be served as it is. */
  strict: z.boolean().optional(),
}

function listOf<T extends z.ZodType>(tool: T) {
  return z.array(tool).max(MAX_TOOLS).optional()
}

const ChatTool = z.strictObject({
  type: z.literal('function', FUNCTIONS_ONLY),
  function: z.strictObject(Fields).superRefine(strictIsServed),
  cache_control: ignored,
})
const ChatFunction = z.strictObject({
  type: z.literal('function', FUNCTIONS_ONLY),
  function: z.strictObject({ name: ToolName }),
})
const Mode = z.enum(['none', 'auto', 'required'])
const Allowed = z.enum(['auto', 'required'])

/** Of chat completions. */
export const ChatTools = listOf(ChatTool)
export const ChatToolChoice = z
  .union(
    [
      Mode,
      ChatFunction,
      z.strictObject({
        type: z.literal('allowed_tools'),
        allowed_tools: z.strictObject({ mode: Allowed, tools: z.array(ChatFunction).min(1).max(MAX_TOOLS) }),
      }),
    ],
    'must be none, auto, required, or a function',
  )
  .optional()

/** Of responses. Searching the web is something that a model may do, and this one never does. */
const ResponseTool = z.discriminatedUnion(
  'type',
  [
    z
      .strictObject({ type: z.literal('function'), ...Fields, defer_loading: ignored })
      .superRefine(strictIsServed),
    z.looseObject({
      type: z.enum([
        'web_search',
        'web_search_2025_08_26',
        'web_search_preview',
        'web_search_preview_2025_03_11',
      ]),
    }),
  ],
  FUNCTIONS_ONLY,
)
const ResponseFunction = z.strictObject({ type: z.literal('function', FUNCTIONS_ONLY), name: ToolName })
export const ResponseTools = listOf(ResponseTool)
export const ResponseToolChoice = z
  .union(
    [
      Mode,
      ResponseFunction,
      z.strictObject({
        type: z.literal('allowed_tools'),
        ...{ mode: Allowed, tools: z.array(ResponseFunction).min(1).max(MAX_TOOLS) },
      }),
    ],
    'must be none, auto, required, or a function',
  )
  .optional()

/** Of messages. */
const MessageTool = z
  .strictObject({
    type: z.literal('custom', 'tools of the server are not supported').optional(),
    name: ToolName,
    description: Fields.description,
    input_schema: Parameters,
    strict: Fields.strict,
    cache_control: CacheControl,
    input_examples: ignored,
    eager_input_streaming: ignored,
    defer_loading: ignored,
    allowed_callers: ignored,
  })
  .superRefine(({ strict, input_schema }, context) =>
    schemaIsServed(strict, input_schema, 'input_schema', context),
  )
const disable_parallel_tool_use = z.boolean().optional()
export const MessageTools = listOf(MessageTool)
export const MessageToolChoice = z
  .discriminatedUnion(
    'type',
    [
      z.strictObject({ type: z.enum(['auto', 'any']), disable_parallel_tool_use }),
      z.strictObject({ type: z.literal('tool'), name: ToolName, disable_parallel_tool_use }),
      z.strictObject({ type: z.literal('none') }),
    ],
    'must have the type auto, any, tool or none',
  )
  .optional()

function strictIsServed(
  {
    strict,
    parameters = {},
  }: { strict?: boolean | undefined; parameters?: Record<string, unknown> | undefined },
  context: z.RefinementCtx,
): void {
  schemaIsServed(strict, parameters, 'parameters', context)
}

function schemaIsServed(
  strict: boolean | undefined,
  schema: Record<string, unknown>,
  field: string,
  context: z.RefinementCtx,
): void {
  const problem = strict ? problemOf(schema) : undefined
  if (!problem) return
  context.addIssue({
    code: 'custom',
    path: [field, ...problem.path],
    message: problem.message,
    input: schema,
  })
}

/** The older fields of a chat: an answer has one call at most. */
export const ChatFunctions = listOf(ChatTool.shape.function)
export const ChatFunctionCall = z
  .union([z.enum(['none', 'auto']), z.strictObject({ name: ToolName })], 'must be none, auto, or a function')
  .optional()

interface ChatBody {
  readonly functions?: z.infer<typeof ChatFunctions>
  readonly function_call?: z.infer<typeof ChatFunctionCall>
  readonly tools?: z.infer<typeof ChatTools>
  readonly tool_choice?: z.infer<typeof ChatToolChoice>
  readonly parallel_tool_calls?: boolean | undefined
}

/** Whether a chat's calls come in the older fields. */
export function hasFunctions({ functions = [], tools = [] }: ChatBody): boolean {
  return functions.length > 0 && tools.length === 0
}

export function chatToolsOf(body: ChatBody): ToolFields {
  if (hasFunctions(body)) return fields(body.functions ?? [], body.function_call, false)
  const { tools = [], tool_choice, parallel_tool_calls } = body
  const functions = tools.map((tool) => tool.function)
  if (typeof tool_choice !== 'object') return fields(functions, tool_choice, parallel_tool_calls)
  if (tool_choice.type === 'function') return fields(functions, tool_choice.function, parallel_tool_calls)
  const { mode, tools: allowed } = tool_choice.allowed_tools
  return fields(
    among(
      functions,
      allowed.map((tool) => tool.function.name),
    ),
    mode,
    parallel_tool_calls,
  )
}

interface ResponseBody {
  readonly tools?: z.infer<typeof ResponseTools>
  readonly tool_choice?: z.infer<typeof ResponseToolChoice>
  readonly parallel_tool_calls?: boolean | undefined
}

export function responseToolsOf({ tools = [], tool_choice, parallel_tool_calls }: ResponseBody): ToolFields {
  const functions = tools.flatMap((tool) => {
    if (tool.type !== 'function') return []
    const { name, description, parameters, strict } = tool
    return [{ name, description, parameters, strict }]
  })
  if (typeof tool_choice !== 'object') return fields(functions, tool_choice, parallel_tool_calls)
  if (tool_choice.type === 'function')
    return fields(functions, { name: tool_choice.name }, parallel_tool_calls)
  const allowed = tool_choice.tools.map(({ name }) => name)
  return fields(among(functions, allowed), tool_choice.mode, parallel_tool_calls)
}

/** Paths of the tools that are never called. */
export function ignoredTools({ tools = [] }: ResponseBody): string[] {
  return tools.flatMap(({ type }, index) => (type === 'function' ? [] : [`tools.${index}`]))
}

interface MessageBody {
  readonly tools?: z.infer<typeof MessageTools>
  readonly tool_choice?: z.infer<typeof MessageToolChoice>
}

export function messageToolsOf({ tools = [], tool_choice }: MessageBody): ToolFields {
  const functions = tools.map(({ name, description, input_schema, strict }) => {
    return { name, description, parameters: input_schema, strict }
  })
  const several =
    tool_choice && 'disable_parallel_tool_use' in tool_choice && tool_choice.disable_parallel_tool_use
  const parallel = several ? false : undefined
  if (tool_choice?.type === 'tool') return fields(functions, { name: tool_choice.name }, parallel)
  if (tool_choice?.type === 'any') return fields(functions, 'required', parallel)
  return fields(functions, tool_choice?.type, parallel)
}

type Tools = NonNullable<ToolFields['tools']>

function among(tools: Tools, names: readonly string[]): Tools {
  return tools.filter(({ name }) => names.includes(name))
}

/** Tools that must not be called are no part of the request; neutral values need no node that knows them. */
function fields(
  tools: Tools,
  choice: ToolFields['tool_choice'] | 'none',
  parallel: boolean | undefined,
): ToolFields {
  if (choice === 'none') return {}
  const tool_choice = choice === 'auto' ? undefined : choice
  if (tools.length === 0) return { tool_choice }
  return { tools, tool_choice, parallel_tool_calls: parallel === false ? false : undefined }
}
