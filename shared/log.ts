export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Names, numbers and codes; never a secret, prompt or answer. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

export interface LoggerOptions {
  /** The lowest level that is written. */
  readonly level: LogLevel
  /** `text` for a terminal; default `json`: one object per line. */
  readonly format?: 'json' | 'text' | undefined
  readonly write: (line: string, level: LogLevel) => void
}

/**
 * Writes one line per event: `{"time", "level", "message", …fields}`, with `error` (stack and causes) for a
 * thrown value.
 */
export class Logger {
  readonly #options: LoggerOptions
  readonly #fields: LogFields

  constructor(options: LoggerOptions, fields: LogFields = {}) {
    this.#options = options
    this.#fields = fields
  }

  /** A logger that adds these fields to every line. */
  with(fields: LogFields): Logger {
    return new Logger(this.#options, { ...this.#fields, ...fields })
  }

  debug(message: string, fields?: LogFields): void {
    this.#write('debug', message, fields)
  }

  info(message: string, fields?: LogFields): void {
    this.#write('info', message, fields)
  }

  warn(message: string, fields?: LogFields, thrown?: unknown): void {
    this.#write('warn', message, fields, thrown)
  }

  error(message: string, fields?: LogFields, thrown?: unknown): void {
    this.#write('error', message, fields, thrown)
  }

  #write(level: LogLevel, message: string, fields: LogFields = {}, thrown?: unknown): void {
    const { level: minimum, format, write } = this.#options
    if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(minimum)) return
    const all = { ...this.#fields, ...fields, ...(thrown !== undefined && { error: describe(thrown) }) }
    const time = new Date().toISOString()
    write(
      format === 'text'
        ? `${time.slice(11, 19)} ${level} ${message}${asText(all)}`
        : JSON.stringify({ time, level, message, ...all }),
      level,
    )
  }
}

/** The level with this name; `fallback` for an unknown name. */
export function logLevel(name: string | undefined, fallback: LogLevel): LogLevel {
  return LOG_LEVELS.find((level) => level === name) ?? fallback
}

function describe(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown)
  const cause = thrown.cause === undefined ? '' : `\ncaused by ${describe(thrown.cause)}`
  return (thrown.stack ?? `${thrown.name}: ${thrown.message}`) + cause
}

function asText(fields: LogFields): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => ` ${name}=${value}`)
    .join('')
}
