import { Logger, type LogLevel } from '../../shared/log.ts'

export const silent = new Logger({ level: 'silent', write: () => {} })

/** A log that records its lines, as text and parsed. */
export function recorded(level: LogLevel = 'debug') {
  const lines: string[] = []
  const log = new Logger({ level, write: (line) => lines.push(line) })
  return { log, lines, entries: () => lines.map((line): Record<string, unknown> => JSON.parse(line)) }
}
