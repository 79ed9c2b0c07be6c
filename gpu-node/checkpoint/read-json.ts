import { join } from 'node:path'
import type { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse, parseJson } from '../../shared/parse.ts'
import { broken } from './refusals.ts'
import { readTextFile } from './regular-file.ts'

/** Four times the largest tokenizer.json in use. */
const MAX_TEXT_BYTES = 128 * 1024 * 1024

/** Reads a text file of a checkpoint; undefined when it does not exist. */
export function readText(folder: string, file: string): string | undefined {
  return readTextFile(join(folder, file), MAX_TEXT_BYTES)
}

/** Reads and validates a JSON file of a checkpoint. @throws StartupError that names file and field. */
export function readJson<T>(schema: z.ZodType<T>, folder: string, file: string): T {
  const value = readOptionalJson(schema, folder, file)
  if (value === undefined) throw broken(`${join(folder, file)} is missing`)
  return value
}

/** Like {@link readJson}, but returns undefined when the file does not exist. */
export function readOptionalJson<T>(schema: z.ZodType<T>, folder: string, file: string): T | undefined {
  const text = readText(folder, file)
  return text === undefined ? undefined : ofFile(join(folder, file), () => parseJson(schema, text))
}

/** Validates a value of a file. @throws StartupError that names file and field. */
export function checkValue<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  return ofFile(file, () => parse(schema, value))
}

function ofFile<T>(file: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    const reason = error.code === 'invalid_json' ? 'is not valid JSON' : error.message
    throw broken(`${file}: ${reason}`, error)
  }
}
