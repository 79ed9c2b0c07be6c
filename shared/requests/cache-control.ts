import { z } from 'zod'

/**
 * Anthropic's marker: the prompt until here is to be found in the cache again. The prefix cache keeps every prompt, so it
 * decides only to which gpu node the call goes, and how its usage is named.
 */
export const CacheControl = z.looseObject({ type: z.string().max(64) }).optional()
