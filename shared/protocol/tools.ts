import { z } from 'zod'
import type * as types from './types/tools.ts'

export const MAX_TOOLS = 512
const MAX_CALLS = 1024
/** Of all tools of a request as JSON, in UTF-16 code units. */
export const MAX_TOOLS_CHARS = 512 * 1024

/** They stand in JSON without escapes. */
export const ToolName = z.string().regex(/^[\w.:-]{1,128}$/, 'must be up to 128 letters, digits and _ . : -')

export const ToolCall = z.strictObject({
  id: z.string().max(256),
  name: z.string().max(256),
  arguments: z.string().max(1_000_000),
})
export const ToolCalls = z.array(ToolCall).min(1).max(MAX_CALLS)

export const Tool = z.strictObject({
  name: ToolName,
  description: z.string().optional(),
  parameters: z.record(z.string(), z.unknown()).optional(),
  strict: z.boolean().optional(),
})
export type Tool = types.Tool

export const Tools = z
  .array(Tool)
  .min(1)
  .max(MAX_TOOLS)
  .refine((tools) => new Set(tools.map(({ name }) => name)).size === tools.length, 'names a tool twice')
  .refine((tools) => JSON.stringify(tools).length <= MAX_TOOLS_CHARS, 'are too long')

export const ToolChoice = z.union([z.enum(['auto', 'required']), z.strictObject({ name: ToolName })])
export type ToolChoice = types.ToolChoice
