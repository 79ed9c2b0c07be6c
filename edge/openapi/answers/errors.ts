import { z } from 'zod'
import { ERROR_CODES, type ErrorCode } from '../../../shared/errors.ts'

const codes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]

/** `param`: path of the field at fault. */
const common = { message: z.string(), param: z.string().nullable(), code: z.enum(codes) }

export const errorSchema = z.strictObject({ error: z.strictObject({ ...common, type: z.string() }) })

export const messagesErrorSchema = z.strictObject({
  type: z.literal('error'),
  error: z.strictObject({ ...common, type: z.string() }),
  request_id: z.string(),
})
