import { StartupError } from '../startup-error.ts'

/** Refuses a field by its name. */
export type Refuse = (field: string, why: string) => never

/** A file that contradicts itself, is damaged or is not there. The message names it, and what in it is wrong. */
export function broken(message: string, cause?: unknown): StartupError {
  return new StartupError('broken_checkpoint', message, cause)
}

/** A file in order that asks for something that is not read or not computed. The message names both. */
export function unsupported(message: string, cause?: unknown): StartupError {
  return new StartupError('unsupported_checkpoint', message, cause)
}

/** Refuses fields of a file. */
export function refuseFieldsOf(file: string): Refuse {
  return (field, why) => {
    throw unsupported(`${file}: ${field}: ${why}`)
  }
}
