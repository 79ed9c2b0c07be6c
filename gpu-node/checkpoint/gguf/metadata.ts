import type { z } from 'zod'
import { checkValue } from '../read-json.ts'
import type { GgufFile, GgufValue } from './gguf-file.ts'

/** The metadata as an object of this schema. @throws StartupError that names the file and the field at fault. */
export function parseMetadata<T>(schema: z.ZodType<T>, { path, metadata }: GgufFile): T {
  return checkValue(schema, Object.fromEntries(metadata), path)
}

/** The fields whose names begin with `prefix` and a point, without those. */
export function inside({ metadata }: GgufFile, prefix: string): Record<string, GgufValue> {
  const start = `${prefix}.`
  const entries = [...metadata].filter(([key]) => key.startsWith(start))
  return Object.fromEntries(entries.map(([key, value]) => [key.slice(start.length), value]))
}
