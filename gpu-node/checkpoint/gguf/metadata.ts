import type { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import { parse } from '../../../shared/parse.ts'
import { StartupError } from '../../startup-error.ts'
import type { GgufFile } from './gguf-file.ts'

/** The metadata as an object of this schema. @throws StartupError that names the file and the field at fault. */
export function parseMetadata<T>(schema: z.ZodType<T>, { path, metadata }: GgufFile): T {
  try {
    return parse(schema, Object.fromEntries(metadata))
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    throw new StartupError('broken_checkpoint', `${path}: ${error.message}`, error)
  }
}
